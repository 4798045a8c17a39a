"""The agent: watches the pools of the node, extends them, gives space back, trims, and says what has changed."""
