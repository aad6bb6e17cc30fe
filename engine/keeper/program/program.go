// Package program carries the keeper's program inside the kelp binary and
// executes it from sealed memory.
//
// The keeper is a program of its own because libcontainer re-executes what
// calls it for every start and exec, and each of those pays for the size and
// the package initialisation of that program. It is sealed so that no
// container can write to the program that starts the next one (CVE-2019-5736).
package program

import (
	"debug/buildinfo"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

//go:embed bin
var bin embed.FS

// Content returns the program itself.
func Content() ([]byte, error) {
	program, err := bin.ReadFile("bin/kelp-keeper")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Internal("this kelp was built without its keeper").WithHint("build it with 'make'")
	}
	return program, err
}

// Open returns the keeper's program as a sealed memfd and a path to execute
// it by, which is good in this process and its children.
func Open() (f *os.File, path string, err error) {
	program, err := Content()
	if err != nil {
		return nil, "", err
	}
	fd, err := unix.MemfdCreate("kelp-keeper", unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3 does not know MFD_EXEC
		fd, err = unix.MemfdCreate("kelp-keeper", unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot make a memfd for the keeper: %w", err)
	}
	f = os.NewFile(uintptr(fd), "kelp-keeper")
	if _, err := f.Write(program); err != nil {
		f.Close()
		return nil, "", fmt.Errorf("cannot copy the keeper to memory: %w", err)
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, "", fmt.Errorf("cannot seal the keeper's memory: %w", err)
	}
	return f, "/proc/self/fd/" + strconv.Itoa(fd), nil
}

// BuildInfo tells what the keeper's program was built from. It reads no more
// of it than that takes.
func BuildInfo() (*buildinfo.BuildInfo, error) {
	f, err := bin.Open("bin/kelp-keeper")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return buildinfo.Read(f.(io.ReaderAt)) // as every file of an embed.FS is
}

// Exec makes this process the keeper. It returns only when it fails.
//
// Preconditions: f comes from Open; the process is inside the user namespace.
func Exec(f *os.File, c keeper.Config) error {
	config, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := closeOnExec(firstFD + c.Sockets); err != nil {
		return err
	}
	// RootlessKit has asked the kernel to kill this process with its parent;
	// the setting is one of the thread that executes the keeper.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot clear the parent-death signal: %w", err)
	}
	env := append(os.Environ(), keeper.ConfigEnv+"="+string(config))
	err = unix.Exec("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), []string{"kelp-keeper"}, env)
	return fmt.Errorf("cannot execute the keeper: %w", err)
}

// firstFD is the first file descriptor after the standard streams, where
// systemd's sockets are.
const firstFD = 3

// closeOnExec keeps open files, from the file descriptor first on, from the
// keeper: its own program and what RootlessKit left open.
func closeOnExec(first int) error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("cannot list open files: %w", err)
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
