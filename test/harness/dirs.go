package harness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// needed is the space that a base directory must have free.
const needed = 2 << 30

// makeBase makes the directory that everything is in: in memory where that has
// room, for tests that wait for the disk are slow, and with a short path, for
// a unix socket's is limited.
func makeBase() (string, error) {
	for _, dir := range []string{"/dev/shm", os.TempDir()} {
		if !suitable(dir) {
			continue
		}
		base, err := os.MkdirTemp(dir, "kt")
		if err != nil {
			return "", err
		}
		return base, os.Chmod(base, 0o755)
	}
	return "", fmt.Errorf("neither /dev/shm nor %s has %d MiB free for the tests", os.TempDir(), needed>>20)
}

// suitable says whether dir has room, runs programs and, for overlay mounts of
// ordinary users, keeps extended attributes.
func suitable(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Flags&unix.ST_NOEXEC != 0 || st.Bavail*uint64(st.Bsize) < needed {
		return false
	}
	f, err := os.CreateTemp(dir, "kt")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return unix.Fsetxattr(int(f.Fd()), "user.kelp", []byte("y"), 0) == nil
}

// removeAll removes dir and what subordinate users own in it.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	out, err := exec.Command("unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w: %s", dir, err, out)
	}
	return nil
}

// sharedGroup is a supplementary group of the test user, of no account.
const sharedGroup = 60999

// sharedDir is a directory of root's that only sharedGroup may enter, with a
// file that it may read. There is none where root did not start the tests.
func sharedDir() string { return filepath.Join(os.Getenv(baseEnv), "shared") }

func makeShared(base string) error {
	dir := filepath.Join(base, "shared")
	file := filepath.Join(dir, "chart")
	return errors.Join(
		os.Mkdir(dir, 0o750), os.WriteFile(file, []byte("Here be whales\n"), 0o640),
		os.Chmod(dir, 0o750), os.Chmod(file, 0o640),
		os.Chown(dir, 0, sharedGroup), os.Chown(file, 0, sharedGroup),
	)
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func chownAll(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
