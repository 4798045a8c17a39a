/*
 * Laid under User-Mode Linux (LD_PRELOAD) so that it runs on processors with AMX.
 *
 * The kernel of a guest keeps the vector registers of its processes in an area of fixed size (FP_SIZE in
 * arch/x86/um/os-Linux/registers.c, 2696 bytes up to Linux 6.10) and the host's kernel takes only an area of its own
 * full size (xstateregs_set in arch/x86/kernel/fpu/regset.c, EFAULT else): 11008 bytes with AMX. So hand over a full
 * one. What is beyond the guest's area are AMX tiles, which no process of a guest was ever permitted to use: they are
 * in their initial state, which is what their bit in XSTATE_BV being 0 says.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#define XSTATE_BV 512 /* its offset; Intel SDM volume 1, 13.4.2 */
#define AMX (3ULL << 17)

static _Alignas(64) unsigned char area[64 << 10];
static size_t full;

static long pass(int request, pid_t pid, void *where, void *data)
{
    static long (*next)(int, pid_t, void *, void *);

    if (!next)
        next = (long (*)(int, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    return next(request, pid, where, data);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *where = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request != PTRACE_SETREGSET || (long)where != NT_X86_XSTATE)
        return pass(request, pid, where, data);
    if (!full) {
        struct iovec all = {area, sizeof area};
        if (pass(PTRACE_GETREGSET, pid, where, &all) < 0)
            return -1;
        full = all.iov_len;
        memset(area, 0, sizeof area);
    }
    struct iovec *given = data;
    if (given->iov_len >= full)
        return pass(request, pid, where, data);
    unsigned long long present;
    memcpy(area, given->iov_base, given->iov_len);
    memcpy(&present, area + XSTATE_BV, sizeof present);
    present &= ~AMX;
    memcpy(area + XSTATE_BV, &present, sizeof present);
    return pass(request, pid, where, &(struct iovec){area, full});
}
