package runtime

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
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

// filters are compiled seccomp profiles.
type filters struct {
	mu       sync.Mutex
	programs map[[sha256.Size]byte]func() (*os.File, error)
}

// give passes a process the compiled profile of its container.
func (f *filters) give(p *libcontainer.Process, profile *configs.Seccomp) error {
	program, err := f.get(profile)
	if program != nil {
		p.ExtraFiles = append(p.ExtraFiles, program)
	}
	return err
}

// get returns the compiled profile; nil says that the process has to compile
// it itself.
func (f *filters) get(profile *configs.Seccomp) (*os.File, error) {
	if profile == nil {
		return nil, nil
	}
	b, err := json.Marshal(profile)
	if err != nil {
		return nil, err
	}
	compiled := f.entry(sha256.Sum256(b), b)
	if compiled == nil {
		return nil, nil
	}
	return compiled()
}

// entry returns what gives the program of a profile, and waits for it to be
// compiled; nil when there are too many.
func (f *filters) entry(key [sha256.Size]byte, profile []byte) func() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.programs[key]; ok {
		return e
	}
	if len(f.programs) >= maxFilters {
		return nil
	}
	if f.programs == nil {
		f.programs = map[[sha256.Size]byte]func() (*os.File, error){}
	}
	e := sync.OnceValues(func() (*os.File, error) {
		file, err := compileFilter(profile)
		if err != nil { // it may go better the next time
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.programs, key)
		}
		return file, err
	})
	f.programs[key] = e
	return e
}

// compileFilter runs CompileSeccomp and seals its program.
func compileFilter(profile []byte) (*os.File, error) {
	cmd := exec.Command("/proc/self/exe", CompileStage)
	cmd.Stdin = bytes.NewReader(profile)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	program, err := cmd.Output()
	if len(program) == 0 || len(program)%8 != 0 || complaint.Len() > 0 {
		return nil, fmt.Errorf("cannot compile the seccomp profile: %w: %s", errors.Join(err, errors.New("no program")), bytes.TrimSpace(complaint.Bytes()))
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
