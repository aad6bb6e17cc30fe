package seccomp

import "fmt"

// ScmpArch is a processor architecture, or a way to call its kernel.
type ScmpArch uint

// Architectures.
const (
	ArchInvalid ScmpArch = iota
	ArchNative
	ArchX86
	ArchAMD64
	ArchX32
	ArchARM
	ArchARM64
	ArchMIPS
	ArchMIPS64
	ArchMIPS64N32
	ArchMIPSEL
	ArchMIPSEL64
	ArchMIPSEL64N32
	ArchPPC
	ArchPPC64
	ArchPPC64LE
	ArchS390
	ArchS390X
	ArchPARISC
	ArchPARISC64
	ArchRISCV64
	ArchLOONGARCH64
	ArchM68K
	ArchSH
	ArchSHEB
)

// archNames are the names that libcontainer's configuration has.
var archNames = [...]string{
	ArchX86: "x86", ArchAMD64: "amd64", ArchX32: "x32", ArchARM: "arm", ArchARM64: "arm64",
	ArchMIPS: "mips", ArchMIPS64: "mips64", ArchMIPS64N32: "mips64n32",
	ArchMIPSEL: "mipsel", ArchMIPSEL64: "mipsel64", ArchMIPSEL64N32: "mipsel64n32",
	ArchPPC: "ppc", ArchPPC64: "ppc64", ArchPPC64LE: "ppc64le", ArchS390: "s390", ArchS390X: "s390x",
	ArchPARISC: "parisc", ArchPARISC64: "parisc64", ArchRISCV64: "riscv64", ArchLOONGARCH64: "loong64",
	ArchM68K: "m68k", ArchSH: "sh", ArchSHEB: "sheb",
}

func (a ScmpArch) String() string {
	if int(a) < len(archNames) && archNames[a] != "" {
		return archNames[a]
	}
	return fmt.Sprintf("architecture %d", uint(a))
}

// OnlyCompiled is the name of an architecture that exists, as another name of
// the native one, where Compiled is set. In a profile it says that the
// profile's rules are not to be compiled.
const OnlyCompiled = "only-compiled"

// GetArchFromString returns the architecture of that name.
func GetArchFromString(name string) (ScmpArch, error) {
	if name == OnlyCompiled && Compiled != nil {
		return GetNativeArch()
	}
	for a, n := range archNames {
		if n == name && n != "" {
			return ScmpArch(a), nil
		}
	}
	return ArchInvalid, fmt.Errorf("unknown architecture %q", name)
}

// GetNativeArch returns the architecture of this machine.
func GetNativeArch() (ScmpArch, error) {
	native := nativeToken()
	for a := range archNames {
		if token, ok := ScmpArch(a).token(); ok && token == native {
			return ScmpArch(a), nil
		}
	}
	return ArchInvalid, fmt.Errorf("libseccomp's native architecture %#x is unknown", native)
}
