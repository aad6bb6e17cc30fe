package seccomp

/*
#cgo pkg-config: libseccomp
#cgo CFLAGS: -D_GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <seccomp.h>

// What older headers lack. No library of theirs knows them, either: an
// architecture is refused, and an attribute never asked for.
#ifndef SCMP_ARCH_RISCV64
#define SCMP_ARCH_RISCV64 0
#endif
#ifndef SCMP_ARCH_LOONGARCH64
#define SCMP_ARCH_LOONGARCH64 0
#endif
#ifndef SCMP_ARCH_M68K
#define SCMP_ARCH_M68K 0
#endif
#ifndef SCMP_ARCH_SH
#define SCMP_ARCH_SH 0
#endif
#ifndef SCMP_ARCH_SHEB
#define SCMP_ARCH_SHEB 0
#endif
#if SCMP_VER_MAJOR == 2 && SCMP_VER_MINOR < 6
#define SCMP_FLTATR_CTL_WAITKILL _SCMP_FLTATR_MIN
#endif

const uint32_t arch_native = SCMP_ARCH_NATIVE, arch_x86 = SCMP_ARCH_X86, arch_x86_64 = SCMP_ARCH_X86_64,
	arch_x32 = SCMP_ARCH_X32, arch_arm = SCMP_ARCH_ARM, arch_aarch64 = SCMP_ARCH_AARCH64, arch_mips = SCMP_ARCH_MIPS,
	arch_mips64 = SCMP_ARCH_MIPS64, arch_mips64n32 = SCMP_ARCH_MIPS64N32, arch_mipsel = SCMP_ARCH_MIPSEL,
	arch_mipsel64 = SCMP_ARCH_MIPSEL64, arch_mipsel64n32 = SCMP_ARCH_MIPSEL64N32, arch_ppc = SCMP_ARCH_PPC,
	arch_ppc64 = SCMP_ARCH_PPC64, arch_ppc64le = SCMP_ARCH_PPC64LE, arch_s390 = SCMP_ARCH_S390,
	arch_s390x = SCMP_ARCH_S390X, arch_parisc = SCMP_ARCH_PARISC, arch_parisc64 = SCMP_ARCH_PARISC64,
	arch_riscv64 = SCMP_ARCH_RISCV64, arch_loongarch64 = SCMP_ARCH_LOONGARCH64, arch_m68k = SCMP_ARCH_M68K,
	arch_sh = SCMP_ARCH_SH, arch_sheb = SCMP_ARCH_SHEB;

const uint32_t act_kill_thread = SCMP_ACT_KILL_THREAD, act_kill_process = SCMP_ACT_KILL_PROCESS,
	act_trap = SCMP_ACT_TRAP, act_notify = SCMP_ACT_NOTIFY, act_errno = SCMP_ACT_ERRNO(0),
	act_trace = SCMP_ACT_TRACE(0), act_log = SCMP_ACT_LOG, act_allow = SCMP_ACT_ALLOW;
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

var archTokens = [...]C.uint32_t{
	ArchX86: C.arch_x86, ArchAMD64: C.arch_x86_64, ArchX32: C.arch_x32, ArchARM: C.arch_arm, ArchARM64: C.arch_aarch64,
	ArchMIPS: C.arch_mips, ArchMIPS64: C.arch_mips64, ArchMIPS64N32: C.arch_mips64n32,
	ArchMIPSEL: C.arch_mipsel, ArchMIPSEL64: C.arch_mipsel64, ArchMIPSEL64N32: C.arch_mipsel64n32,
	ArchPPC: C.arch_ppc, ArchPPC64: C.arch_ppc64, ArchPPC64LE: C.arch_ppc64le, ArchS390: C.arch_s390, ArchS390X: C.arch_s390x,
	ArchPARISC: C.arch_parisc, ArchPARISC64: C.arch_parisc64, ArchRISCV64: C.arch_riscv64, ArchLOONGARCH64: C.arch_loongarch64,
	ArchM68K: C.arch_m68k, ArchSH: C.arch_sh, ArchSHEB: C.arch_sheb,
}

// token is the architecture in libseccomp's terms.
func (a ScmpArch) token() (uint32, bool) {
	if a == ArchNative {
		return uint32(C.arch_native), true
	}
	if int(a) >= len(archTokens) || archTokens[a] == 0 {
		return 0, false
	}
	return uint32(archTokens[a]), true
}

func nativeToken() uint32 { return uint32(C.seccomp_arch_native()) }

// native is the action in libseccomp's terms.
func (a ScmpAction) native() (C.uint32_t, error) {
	switch a.kind() {
	case ActKillThread:
		return C.act_kill_thread, nil
	case ActKillProcess:
		return C.act_kill_process, nil
	case ActTrap:
		return C.act_trap, nil
	case ActNotify:
		return C.act_notify, nil
	case ActErrno:
		return C.act_errno | C.uint32_t(a.code()), nil
	case ActTrace:
		return C.act_trace | C.uint32_t(a.code()), nil
	case ActLog:
		return C.act_log, nil
	case ActAllow:
		return C.act_allow, nil
	}
	return 0, fmt.Errorf("invalid action %d of a seccomp filter", a)
}

var compareOps = map[ScmpCompareOp]uint32{
	CompareNotEqual: C.SCMP_CMP_NE, CompareLess: C.SCMP_CMP_LT, CompareLessOrEqual: C.SCMP_CMP_LE, CompareEqual: C.SCMP_CMP_EQ,
	CompareGreaterEqual: C.SCMP_CMP_GE, CompareGreater: C.SCMP_CMP_GT, CompareMaskedEqual: C.SCMP_CMP_MASKED_EQ,
}

// apiLevel is what the library and the kernel can do together.
var apiLevel = sync.OnceValue(func() uint { return uint(C.seccomp_api_get()) })

// GetAPI returns the level of libseccomp's API.
func GetAPI() (uint, error) { return apiLevel(), nil }

// GetLibraryVersion returns the version of libseccomp.
func GetLibraryVersion() (major, minor, micro uint) {
	v := C.seccomp_version()
	return uint(v.major), uint(v.minor), uint(v.micro)
}

// GetSyscallFromName returns a system call's number on this machine.
func GetSyscallFromName(name string) (ScmpSyscall, error) {
	return GetSyscallFromNameByArch(name, ArchNative)
}

// GetSyscallFromNameByArch returns a system call's number on an architecture,
// below zero when it is not there but elsewhere.
func GetSyscallFromNameByArch(name string, arch ScmpArch) (ScmpSyscall, error) {
	token, ok := arch.token()
	if !ok {
		return 0, fmt.Errorf("libseccomp does not know the %v", arch)
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	nr := C.seccomp_syscall_resolve_name_arch(C.uint32_t(token), cname)
	if nr == C.__NR_SCMP_ERROR {
		return 0, fmt.Errorf("unknown system call %q", name)
	}
	return ScmpSyscall(nr), nil
}

// compile has libseccomp make the program of a filter.
func compile(f *ScmpFilter) ([]byte, error) {
	action, err := f.act.native()
	if err != nil {
		return nil, err
	}
	ctx := C.seccomp_init(action)
	if ctx == nil {
		return nil, errors.New("libseccomp cannot make a filter")
	}
	defer C.seccomp_release(ctx)
	for _, arch := range f.archs {
		token, ok := arch.token()
		if !ok {
			return nil, fmt.Errorf("libseccomp does not know the %v", arch)
		}
		if rc := C.seccomp_arch_add(ctx, C.uint32_t(token)); rc != 0 && rc != -C.EEXIST {
			return nil, failed("add the "+arch.String(), rc)
		}
	}
	if err := f.attrs.apply(ctx); err != nil {
		return nil, err
	}
	for _, r := range f.rules {
		if err := r.add(ctx); err != nil {
			return nil, err
		}
	}
	return export(ctx)
}

func failed(what string, rc C.int) error {
	return fmt.Errorf("libseccomp cannot %s: %w", what, syscall.Errno(-rc))
}

func (a attributes) apply(ctx C.scmp_filter_ctx) error {
	value := map[bool]C.uint32_t{true: 1}
	for _, attr := range []struct {
		what  string
		name  uint32
		value C.uint32_t
	}{
		{"set no_new_privs", C.SCMP_FLTATR_CTL_NNP, value[a.noNewPrivs]},
		{"optimize", C.SCMP_FLTATR_CTL_OPTIMIZE, C.uint32_t(a.optimize)},
		{"log", C.SCMP_FLTATR_CTL_LOG, value[a.log]},
		{"set SSB", C.SCMP_FLTATR_CTL_SSB, value[a.ssb]},
		{"set WAITKILL", C.SCMP_FLTATR_CTL_WAITKILL, value[a.waitKill]},
	} {
		if attr.value == 0 && attr.name != C.SCMP_FLTATR_CTL_NNP {
			continue // as it is anyway
		}
		if rc := C.seccomp_attr_set(ctx, attr.name, attr.value); rc != 0 {
			return failed(attr.what, rc)
		}
	}
	return nil
}

func (r rule) add(ctx C.scmp_filter_ctx) error {
	action, err := r.action.native()
	if err != nil {
		return err
	}
	var first *C.struct_scmp_arg_cmp
	args := make([]C.struct_scmp_arg_cmp, len(r.args))
	for i, c := range r.args {
		args[i] = C.struct_scmp_arg_cmp{
			arg: C.uint(c.Argument), op: compareOps[c.Op],
			datum_a: C.scmp_datum_t(c.Operand1), datum_b: C.scmp_datum_t(c.Operand2),
		}
		first = &args[0]
	}
	if rc := C.seccomp_rule_add_array(ctx, action, C.int(r.call), C.uint(len(args)), first); rc != 0 {
		return failed(fmt.Sprintf("add a rule for system call %d", r.call), rc)
	}
	return nil
}

// export reads the program by way of memory that libseccomp writes to.
func export(ctx C.scmp_filter_ctx) ([]byte, error) {
	name := C.CString("seccomp")
	defer C.free(unsafe.Pointer(name))
	fd, err := C.memfd_create(name, C.MFD_CLOEXEC)
	if fd < 0 {
		return nil, fmt.Errorf("cannot make a memfd for a seccomp filter: %w", err)
	}
	f := os.NewFile(uintptr(fd), "seccomp")
	defer f.Close()
	if rc := C.seccomp_export_bpf(ctx, fd); rc != 0 {
		return nil, failed("compile the filter", rc)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}
