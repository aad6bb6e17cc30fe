package doctor

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/account"
	"github.com/kelp-engine/kelp/userns/cgroup"
	"github.com/kelp-engine/kelp/userns/probe"
	"github.com/kelp-engine/kelp/userns/subid"
)

// Facts are what Check judges.
type Facts struct {
	UID  int
	User string
	// Kernel is the release, as of uname.
	Kernel string
	// Container names the kind of container that this is in; "" if in none.
	Container string
	// Sysctls has the values of the files of that name below /proc/sys; what
	// the kernel does not have is missing.
	Sysctls map[string]string
	Mounts  probe.Mounts
	// UIDs and GIDs are the user's own ranges, AllUIDs and AllGIDs everybody's
	// in the files.
	UIDs, GIDs, AllUIDs, AllGIDs []subid.Range
	// Accounts are the machine's ordinary accounts, by user id.
	Accounts map[uint32]string
	// SubIDError is why the ranges cannot be read.
	SubIDError error
	// Uidmap and Gidmap are newuidmap and newgidmap.
	Uidmap, Gidmap Tool
	// Mapping is why the ranges cannot be mapped; not tried without ranges,
	// namespaces or tools.
	Mapping error
	Data    FileSystem
	// Fuse says that fuse-overlayfs is there and may be used.
	Fuse       bool
	RuntimeDir string
	RuntimeErr error
	Cgroup     cgroup.Info
	Network    Network
	// Groups are the user's, that of new files first; AccountGID is the
	// account's own, -1 without one.
	Groups     []int
	AccountGID int
	// Docker is the path of a docker client; "" if there is none.
	Docker string
	// Self is kelp's own path.
	Self string
}

// Tool is a program that has privileges of its own.
type Tool struct {
	Path string // "" when it is missing
	// Privileged says that it is setuid root, or has file capabilities.
	Privileged bool
}

// FileSystem is the one that a directory is on, or will be.
type FileSystem struct {
	Dir      string
	Type     int64
	Free     uint64 // bytes; math.MaxUint64 when it does not say
	ReadOnly bool
	NoExec   bool
	// Err is why the directory cannot be used.
	Err error
}

// sysctls are the settings that forbid or bound what kelp needs.
const (
	sysctlClone    = "kernel/unprivileged_userns_clone"
	sysctlMax      = "user/max_user_namespaces"
	sysctlApparmor = "kernel/apparmor_restrict_unprivileged_userns"
	sysctlPorts    = "net/ipv4/ip_unprivileged_port_start"
	sysctlRange    = "net/ipv4/ip_local_port_range"
	sysctlPing     = "net/ipv4/ping_group_range"
)

// Gather finds out the facts for a kelp with the given directories. err is
// why there is no runtime directory.
func Gather(ctx context.Context, dataRoot, runtimeDir string, runtimeErr error) Facts {
	f := Facts{
		UID: os.Geteuid(), User: account.Current().Name, AccountGID: account.Current().GID, Kernel: kernel(), Container: container(),
		RuntimeDir: runtimeDir, RuntimeErr: runtimeErr, Data: fileSystem(dataRoot), Cgroup: cgroup.Probe(),
		Sysctls: map[string]string{}, Uidmap: tool("newuidmap"), Gidmap: tool("newgidmap"),
	}
	for _, name := range []string{sysctlClone, sysctlMax, sysctlApparmor, sysctlPorts, sysctlRange, sysctlPing} {
		if b, err := os.ReadFile("/proc/sys/" + name); err == nil {
			f.Sysctls[name] = strings.TrimSpace(string(b))
		}
	}
	f.gatherSubIDs(ctx)
	f.Mounts = probe.TryMounts(ctx, existing(dataRoot))
	if f.Mounts.Namespace == nil && len(f.UIDs) > 0 && len(f.GIDs) > 0 && f.Uidmap.Path != "" && f.Gidmap.Path != "" {
		f.Mapping = probe.TryMapping(ctx, f.UIDs, f.GIDs)
	}
	if f.Mounts.Namespace == nil {
		f.Network = tryNetwork(ctx)
	}
	more, _ := os.Getgroups() // without, the first has to do
	f.Groups = append([]int{os.Getegid()}, more...)
	if _, err := exec.LookPath("fuse-overlayfs"); err == nil {
		f.Fuse = opens("/dev/fuse") == nil
	}
	f.Docker, _ = exec.LookPath("docker")
	f.Self, _ = os.Executable()
	return f
}

func (f *Facts) gatherSubIDs(ctx context.Context) {
	var errs [4]error
	f.AllUIDs, errs[0] = subid.ReadFile(subid.UIDFile)
	f.AllGIDs, errs[1] = subid.ReadFile(subid.GIDFile)
	f.UIDs, errs[2] = subid.Getsubids(ctx, f.User, false)
	f.GIDs, errs[3] = subid.Getsubids(ctx, f.User, true)
	if len(f.UIDs) == 0 || len(f.GIDs) == 0 { // no such program, or no answer
		f.UIDs, f.GIDs = subid.Of(f.AllUIDs, f.User, f.UID), subid.Of(f.AllGIDs, f.User, f.UID)
	}
	f.SubIDError = errors.Join(errs[0], errs[1])
	f.Accounts = accounts()
}

// accounts reads the accounts of /etc/passwd that are no system's own.
func accounts() map[uint32]string {
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil
	}
	found := map[uint32]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(line, ":")
		if len(f) < 3 {
			continue
		}
		if uid, err := strconv.ParseUint(f[2], 10, 32); err == nil && uid >= 1000 && uid != 65534 {
			found[uint32(uid)] = f[0]
		}
	}
	return found
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// container names the kind of container that this process is in, as far as
// containers tell.
func container() string {
	if b, err := os.ReadFile("/run/systemd/container"); err == nil {
		return strings.TrimSpace(string(b))
	}
	for file, kind := range map[string]string{"/.dockerenv": "docker", "/run/.containerenv": "podman"} {
		if _, err := os.Lstat(file); err == nil {
			return kind
		}
	}
	return os.Getenv("container")
}

func tool(name string) Tool {
	path, err := exec.LookPath(name)
	if err != nil {
		return Tool{}
	}
	t := Tool{Path: path}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err == nil && st.Mode&unix.S_ISUID != 0 && st.Uid == 0 {
		t.Privileged = true
	}
	if n, err := unix.Getxattr(path, "security.capability", nil); err == nil && n > 0 {
		t.Privileged = true
	}
	return t
}

// existing returns dir, or the nearest directory above it that exists.
func existing(dir string) string {
	for dir != "/" {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func fileSystem(dir string) FileSystem {
	fs := FileSystem{Dir: dir}
	there := existing(dir)
	var st unix.Statfs_t
	if fs.Err = unix.Statfs(there, &st); fs.Err != nil {
		return fs
	}
	fs.Type, fs.Free = int64(st.Type), st.Bavail*uint64(st.Bsize)
	if st.Blocks == 0 { // it does not count them
		fs.Free = math.MaxUint64
	}
	fs.ReadOnly, fs.NoExec = st.Flags&unix.ST_RDONLY != 0, st.Flags&unix.ST_NOEXEC != 0
	fs.Err = unix.Access(there, unix.W_OK|unix.X_OK)
	return fs
}

func opens(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
