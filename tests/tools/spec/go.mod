// The public definitions that proto/ is compared with. Nothing is built from them; `go mod download` only fetches and
// checks them against go.sum.
module thinpool-csi.dev/spec

go 1.26.0

require (
	github.com/container-storage-interface/spec v1.13.0
	k8s.io/kubelet v0.37.2
)
