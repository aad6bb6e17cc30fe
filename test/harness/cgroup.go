package harness

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unifiedMount returns where cgroup v2 is mounted, also on hybrid hosts.
func unifiedMount() (string, error) {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(mount, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return mount, nil
		}
	}
	return "", errors.New("no cgroup v2 here")
}

// delegatedCgroup makes a cgroup that belongs to the test user, as systemd
// makes one for a user's session, where the machine has cgroup v2.
func delegatedCgroup(name string, uid, gid int) (*os.File, error) {
	mount, err := unifiedMount()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(mount, name, "test-"+strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(dir, f), uid, gid); err != nil {
			return nil, err
		}
	}
	return os.Open(dir)
}

// subCgroup makes a cgroup below this process's own, if that was delegated: a
// kelp takes the cgroup that it is started in for its own.
func subCgroup(name string) (*os.File, error) {
	mount, err := unifiedMount()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			dir := filepath.Join(mount, own, name)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			return os.Open(dir)
		}
	}
	return nil, errors.New("this process is in no cgroup")
}

// enter makes cmd start in the cgroup.
func enter(cmd *exec.Cmd, group *os.File) {
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
}

// removeCgroup ends what is left in a cgroup and removes it.
func removeCgroup(group *os.File) {
	defer group.Close()
	dir := group.Name()
	_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	_ = Until(context.Background(), patience, "the cgroup is empty", func() error {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		var err error
		for i := len(dirs) - 1; i >= 0; i-- { // the innermost first
			err = os.Remove(dirs[i])
		}
		return err
	})
}
