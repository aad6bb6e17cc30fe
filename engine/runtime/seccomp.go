package runtime

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Compiling the default seccomp profile takes longer than starting a process,
// and each process of a container compiles it anew. So the keeper has it
// compiled once, by a process of its own that runs libcontainer's code on it
// (CompileSeccomp), and hands the program to each process in sealed memory:
// the file descriptor after the standard streams, which Init takes.

// CompileStage is the argument that makes the keeper's program CompileSeccomp.
const CompileStage = "compile-seccomp"

// maxFilters bounds how many programs are kept; a process compiles its own
// when there are more profiles.
const maxFilters = 64

var filterMagic = []byte("kelp compiled seccomp filter\n")

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// CompileSeccomp reads a libcontainer profile from standard input and writes
// its program to standard output. libcontainer then loads the filter into this
// process, which has nothing left to do.
func CompileSeccomp() error {
	var profile configs.Seccomp
	if err := json.NewDecoder(os.Stdin).Decode(&profile); err != nil {
		return fmt.Errorf("cannot read the seccomp profile: %w", err)
	}
	var written error
	libseccomp.Exported = func(program []byte) {
		_, written = os.Stdout.Write(program)
		written = errors.Join(written, os.Stdout.Close())
	}
	_, err := seccomp.InitSeccomp(&profile)
	return errors.Join(err, written)
}

// takeFilter takes the compiled filter that the keeper passed, if it did.
func takeFilter() {
	const fd = 3
	if seals, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0); err != nil || seals&allSeals != allSeals {
		return // one of libcontainer's own
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Size > 1<<20 {
		return
	}
	b := make([]byte, st.Size)
	if n, err := unix.Pread(fd, b, 0); err != nil || int64(n) != st.Size {
		return
	}
	if program, ok := bytes.CutPrefix(b, filterMagic); ok {
		libseccomp.Compiled = program
		unix.Close(fd) // the container's program must not inherit it
	}
}

// passProgram lets a process inherit a compiled filter for takeFilter.
func passProgram(p *libcontainer.Process, program *os.File) {
	if program != nil {
		p.ExtraFiles = append(p.ExtraFiles, program)
	}
}

// filters are compiled seccomp profiles.
type filters struct {
	mu       sync.Mutex
	compiled map[[sha256.Size]byte]func() (filter, error)
}

// filter is a compiled profile: its program, and what libcontainer still has
// to know of the profile. The one must not be used without the other.
type filter struct {
	program *os.File
	rest    *configs.Seccomp
}

// prepare has the profile of a container compiled, in whose place it puts what
// goes with the program; nil leaves the profile to be compiled by every
// process.
func (f *filters) prepare(config *configs.Config) (program *os.File, err error) {
	if config.Seccomp == nil {
		return nil, nil
	}
	b, err := json.Marshal(config.Seccomp)
	if err != nil {
		return nil, err
	}
	compiled := f.entry(sha256.Sum256(b), b, config.Seccomp)
	if compiled == nil {
		return nil, nil
	}
	c, err := compiled()
	if err != nil {
		return nil, err
	}
	config.Seccomp = c.rest
	return c.program, nil
}

// entry returns what waits for a profile to be compiled, which it has begun
// if nobody has; nil when there are too many.
func (f *filters) entry(key [sha256.Size]byte, b []byte, profile *configs.Seccomp) func() (filter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.compiled[key]; ok {
		return e
	}
	if len(f.compiled) >= maxFilters {
		return nil
	}
	if f.compiled == nil {
		f.compiled = map[[sha256.Size]byte]func() (filter, error){}
	}
	e := sync.OnceValues(func() (filter, error) {
		program, err := compileFilter(b)
		if err != nil { // it may go better the next time
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.compiled, key)
		}
		return filter{program, reduce(profile)}, err
	})
	f.compiled[key] = e
	return e
}

// reduce returns a profile without the rules that a compiled one needs no
// more. libcontainer looks at the highest number among them, by architecture,
// to answer ENOSYS for those above, and whether any notifies a listener.
func reduce(profile *configs.Seccomp) *configs.Seccomp {
	rest := *profile
	rest.Syscalls = nil
	keep := map[*configs.Syscall]bool{}
	for _, name := range append([]string{"native"}, profile.Architectures...) {
		arch, err := libseccomp.GetArchFromString(name)
		if name == "native" {
			arch, err = libseccomp.GetNativeArch()
		}
		if err != nil {
			continue
		}
		var highest *configs.Syscall
		var number libseccomp.ScmpSyscall
		for _, call := range profile.Syscalls {
			if n, err := libseccomp.GetSyscallFromNameByArch(call.Name, arch); err == nil && n > number {
				highest, number = call, n
			}
		}
		if highest != nil {
			keep[highest] = true
		}
	}
	for _, call := range profile.Syscalls {
		if keep[call] || call.Action == configs.Notify {
			rest.Syscalls = append(rest.Syscalls, call)
		}
	}
	rest.Architectures = append(slices.Clone(profile.Architectures), libseccomp.OnlyCompiled)
	return &rest
}

// compileFilter runs CompileSeccomp and seals its program.
func compileFilter(profile []byte) (*os.File, error) {
	cmd := exec.Command("/proc/self/exe", CompileStage)
	cmd.Stdin = bytes.NewReader(profile)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	program, err := cmd.Output()
	if complaint.Len() > 0 {
		return nil, fault.InvalidArgument("cannot compile the seccomp profile: %s", bytes.TrimPrefix(bytes.TrimSpace(complaint.Bytes()), []byte("kelp: ")))
	}
	if len(program) == 0 || len(program)%8 != 0 {
		return nil, fmt.Errorf("cannot compile the seccomp profile: got %d bytes: %v", len(program), err)
	}
	// The exit status says nothing: the filter may not let the process end well.
	fd, err := unix.MemfdCreate("seccomp-filter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3
		fd, err = unix.MemfdCreate("seccomp-filter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a memfd for a seccomp filter: %w", err)
	}
	f := os.NewFile(uintptr(fd), "seccomp-filter")
	_, err = f.Write(append(bytes.Clone(filterMagic), program...))
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, allSeals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot seal a seccomp filter: %w", err)
	}
	return f, nil
}
