package doctor

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/cgroup"
	"github.com/kelp-engine/kelp/userns/probe"
	"github.com/kelp-engine/kelp/userns/subid"
)

// healthy are the facts of a machine that has everything.
func healthy() Facts {
	ids := []subid.Range{{Owner: "ann", Start: 100000, Count: 65536}}
	return Facts{
		UID: 1000, User: "ann", Kernel: "6.1.0-18-amd64",
		Sysctls: map[string]string{sysctlMax: "28633", sysctlPing: "0\t2147483647", sysctlRange: "32768\t60999"}, Groups: []int{1000, 27}, AccountGID: 1000,
		UIDs: ids, GIDs: ids, AllUIDs: ids, AllGIDs: ids, Accounts: map[uint32]string{1000: "ann"},
		Uidmap: Tool{"/usr/bin/newuidmap", true}, Gidmap: Tool{"/usr/bin/newgidmap", true},
		Data:       FileSystem{Dir: "/home/ann/.local/share/kelp", Type: unix.EXT4_SUPER_MAGIC, Free: 50 << 30},
		RuntimeDir: "/run/user/1000/kelp", Docker: "/usr/bin/docker", Self: "/usr/bin/kelp",
		Cgroup: cgroup.Info{Driver: cgroup.Systemd, Version: 2, Controllers: []string{"cpuset", "cpu", "io", "memory", "pids"}},
	}
}

func TestHealthyMachinePasses(t *testing.T) {
	for _, r := range Check(healthy()) {
		if r.Status != Pass || r.Remedy != "" || r.Name == "" || r.Detail == "" {
			t.Errorf("%+v", r)
		}
	}
}

func TestSickMachines(t *testing.T) {
	tests := []struct {
		name   string
		sick   func(*Facts)
		check  string
		status Status
		detail string // part of it
		remedy string // part of it
	}{
		{"root", func(f *Facts) { f.UID = 0 }, "user", Fail, "root", "su - USER"},
		{"old kernel", func(f *Facts) { f.Kernel = "4.18.0-553.el8.x86_64" }, "kernel", Warn, "4.18", "fuse-overlayfs"},
		{"debian's sysctl", func(f *Facts) { f.Mounts.Namespace = unix.EPERM; f.Sysctls[sysctlClone] = "0" }, "user namespaces", Fail, "unprivileged_userns_clone is 0", "kernel.unprivileged_userns_clone=1"},
		{"no namespaces allowed", func(f *Facts) { f.Mounts.Namespace = unix.ENOSPC; f.Sysctls[sysctlMax] = "0" }, "user namespaces", Fail, "max_user_namespaces is 0", "user.max_user_namespaces=28633"},
		{"too many namespaces", func(f *Facts) { f.Mounts.Namespace = unix.ENOSPC }, "user namespaces", Fail, "as many as", "user.max_user_namespaces"},
		{"kernel without", func(f *Facts) { f.Mounts.Namespace = unix.EINVAL }, "user namespaces", Fail, "has none", "CONFIG_USER_NS"},
		{"in docker", func(f *Facts) { f.Mounts.Namespace = unix.EPERM; f.Container = "docker" }, "user namespaces", Fail, "docker container forbids", "seccomp=unconfined"},
		{"unknown policy", func(f *Facts) { f.Mounts.Namespace = unix.EPERM }, "user namespaces", Fail, "operation not permitted", "SELinux"},
		{"mounts without namespaces", func(f *Facts) { f.Mounts.Namespace = unix.EPERM }, "mounts", Fail, "not tried", "see user namespaces"},
		{"ubuntu's apparmor", func(f *Facts) { f.Mounts.Tmpfs = unix.EACCES; f.Sysctls[sysctlApparmor] = "1" }, "mounts", Fail, "AppArmor", `profile kelp "/usr/bin/kelp"`},
		{"other policy", func(f *Facts) { f.Mounts.Tmpfs = unix.EACCES }, "mounts", Fail, "permission denied", "security policy"},
		{"masked proc", func(f *Facts) { f.Mounts.Proc = unix.EPERM }, "mounts", Fail, "/proc", "systempaths=unconfined"},
		{"no subordinate ids", func(f *Facts) { f.UIDs, f.GIDs = nil, nil }, "subordinate ids", Fail, "/etc/subuid and /etc/subgid", "usermod --add-subuids"},
		{"no subordinate gids", func(f *Facts) { f.GIDs = nil }, "subordinate ids", Fail, "no range in /etc/subgid", "usermod"},
		{"unreadable", func(f *Facts) { f.UIDs, f.SubIDError = nil, os.ErrPermission }, "subordinate ids", Fail, "permission denied", "readable"},
		{"few ids", func(f *Facts) { f.UIDs = []subid.Range{{Owner: "ann", Start: 100000, Count: 1000}} }, "subordinate ids", Warn, "only 1000", "usermod"},
		{"range of two", func(f *Facts) { f.AllUIDs = append(f.AllUIDs, subid.Range{Owner: "bob", Start: 165535, Count: 9}) }, "subordinate ids", Warn, "165535-165543 of user bob", "usermod"},
		{"range with an account", func(f *Facts) { f.Accounts[100007] = "eve" }, "subordinate ids", Warn, "uid 100007 of user eve", "usermod"},
		{"own range by number too", func(f *Facts) { f.AllUIDs = append(f.AllUIDs, subid.Range{Owner: "1000", Start: 100000, Count: 9}) }, "subordinate ids", Pass, "", ""},
		{"no newuidmap", func(f *Facts) { f.Uidmap = Tool{} }, "newuidmap", Fail, "newuidmap is not installed", "apt-get install uidmap"},
		{"no newgidmap", func(f *Facts) { f.Gidmap = Tool{} }, "newuidmap", Fail, "newgidmap is not installed", "apt-get install uidmap"},
		{"no setuid bit", func(f *Facts) { f.Mapping = unix.EPERM; f.Uidmap.Privileged = false }, "newuidmap", Fail, "lost its privileges", "chmod u+s"},
		{"newgrp", func(f *Facts) { f.Mapping = unix.EPERM; f.Groups = []int{27, 1000} }, "newuidmap", Fail, "your group is 27 here", "outside of newgrp"},
		{"no account", func(f *Facts) { f.Mapping = unix.EPERM; f.AccountGID = -1 }, "newuidmap", Fail, "cannot map", "nosuid"},
		{"refused", func(f *Facts) { f.Mapping = errors.New("newuidmap: uid range not allowed") }, "newuidmap", Fail, "range not allowed", "nosuid"},
		{"NFS home", func(f *Facts) { f.Data.Type = unix.NFS_SUPER_MAGIC }, "data root", Fail, "on NFS", "--data-root"},
		{"read-only disk", func(f *Facts) { f.Data.ReadOnly = true }, "data root", Fail, "read-only", "--data-root"},
		{"not ours", func(f *Facts) { f.Data.Err = unix.EACCES }, "data root", Fail, "permission denied", "--data-root"},
		{"noexec", func(f *Facts) { f.Data.NoExec = true }, "data root", Fail, "noexec", "--data-root"},
		{"full disk", func(f *Facts) { f.Data.Free = 5 << 20 }, "data root", Warn, "only 5MiB", "free some space"},
		{"in memory", func(f *Facts) { f.Data.Type = unix.TMPFS_MAGIC }, "data root", Warn, "gone when", "--data-root"},
		{"unknown file system", func(f *Facts) { f.Data.Type = 0xABCD }, "data root", Pass, "0xabcd", ""},
		{"no native overlay", func(f *Facts) { f.Mounts.Overlay = unix.EINVAL }, "overlay", Warn, "full copy", "install fuse-overlayfs"},
		{"overlay by fuse", func(f *Facts) { f.Mounts.Overlay, f.Fuse = unix.EINVAL, true }, "overlay", Warn, "fuse-overlayfs, which is slower", "newer kernel"},
		{"runtime dir of another", func(f *Facts) { f.RuntimeErr = errors.New("belongs to uid 7") }, "runtime directory", Fail, "uid 7", "XDG_RUNTIME_DIR"},
		{"no cgroup", func(f *Facts) { f.Cgroup = cgroup.Info{Driver: cgroup.None, Reason: "because", Hint: "do that"} }, "cgroups", Warn, "because", "do that"},
		{"some controllers", func(f *Facts) { f.Cgroup.Controllers = []string{"memory", "pids"} }, "cgroups", Warn, "not cpu, cpuset, io", "Delegate=cpu"},
		{"no bridges", func(f *Facts) { f.Network.Devices = unix.EOPNOTSUPP }, "networks", Fail, "cannot be made", "modprobe -a bridge"},
		{"no rules for bridges", func(f *Facts) { f.Network.Guard = unix.EOPNOTSUPP }, "source addresses", Warn, "under each other's", "CONFIG_NF_TABLES_BRIDGE"},
		{"no nftables", func(f *Facts) { f.Network.Rules = unix.EPROTONOSUPPORT }, "packet rules", Warn, "slower", "nft_tproxy"},
		{"no ipvlan", func(f *Facts) { f.Network.Ipvlan, f.Network.SCTP = unix.EOPNOTSUPP, unix.EPROTONOSUPPORT }, "network drivers", Warn, "no ipvlan, SCTP ports", "modprobe -a ipvlan sctp"},
		{"no ping", func(f *Facts) { f.Sysctls[sysctlPing] = "1	0" }, "ping", Warn, "ping_group_range (1 to 0)", "ping_group_range='0 2147483647'"},
		{"ping for one group", func(f *Facts) { f.Sysctls[sysctlPing] = "27	27" }, "ping", Pass, "", ""},
		{"few ports", func(f *Facts) { f.Sysctls[sysctlRange] = "32768	33000" }, "ports", Warn, "32768 to 33000", "ip_local_port_range"},
		{"low ports", func(f *Facts) { f.Sysctls[sysctlPorts] = "80" }, "ports", Pass, "from 80 on", ""},
		{"no client", func(f *Facts) { f.Docker = "" }, "docker client", Warn, "kelp docker", "ln -s /usr/bin/kelp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			f.Mounts = probe.Mounts{}
			tt.sick(&f)
			results := Check(f)
			for _, r := range results {
				if r.Name != tt.check {
					continue
				}
				if r.Status != tt.status || !strings.Contains(r.Detail, tt.detail) || !strings.Contains(r.Remedy, tt.remedy) {
					t.Errorf("got %+v", r)
				}
				if (r.Status == Pass) != (r.Remedy == "") {
					t.Errorf("a remedy goes with what does not pass, and with that alone: %+v", r)
				}
			}
			if Failed(results) != (tt.status == Fail) {
				t.Errorf("Failed says %v", Failed(results))
			}
		})
	}
}
