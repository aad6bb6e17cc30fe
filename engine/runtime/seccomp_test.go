package runtime

import (
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

func TestReduceKeepsTheHighestNumbers(t *testing.T) {
	names := []string{"read", "getrandom", "clone3", "futex_waitv", "write", "socketcall", "close_range"}
	profile := &configs.Seccomp{DefaultAction: configs.Errno, Architectures: []string{"amd64", "x86", "x32", "arm64"}}
	for _, name := range names {
		profile.Syscalls = append(profile.Syscalls, &configs.Syscall{Name: name, Action: configs.Allow})
	}
	profile.Syscalls[0].Action = configs.Notify
	rest := reduce(profile)
	highest := func(p *configs.Seccomp, arch libseccomp.ScmpArch) (top libseccomp.ScmpSyscall) {
		for _, call := range p.Syscalls {
			if n, err := libseccomp.GetSyscallFromNameByArch(call.Name, arch); err == nil {
				top = max(top, n)
			}
		}
		return top
	}
	for _, name := range profile.Architectures {
		arch, err := libseccomp.GetArchFromString(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := highest(rest, arch), highest(profile, arch); got != want || got == 0 {
			t.Errorf("%s: highest number is %d, was %d", name, got, want)
		}
	}
	if len(rest.Syscalls) >= len(names) || rest.Syscalls[0].Name != "read" {
		t.Errorf("kept %d rules, the first for %s", len(rest.Syscalls), rest.Syscalls[0].Name)
	}
	if len(profile.Syscalls) != len(names) || len(profile.Architectures) != 4 {
		t.Error("the profile itself was changed")
	}
}

// A reduced profile must not be compiled: it would be another filter.
func TestReducedProfileNeedsItsProgram(t *testing.T) {
	if _, err := libseccomp.GetArchFromString(libseccomp.OnlyCompiled); err == nil {
		t.Error("a reduced profile is accepted without a program")
	}
	libseccomp.Compiled = []byte("program")
	defer func() { libseccomp.Compiled = nil }()
	native, err := libseccomp.GetNativeArch()
	if err != nil {
		t.Fatal(err)
	}
	if arch, err := libseccomp.GetArchFromString(libseccomp.OnlyCompiled); err != nil || arch != native {
		t.Errorf("got %v, %v, want %v", arch, err, native)
	}
}
