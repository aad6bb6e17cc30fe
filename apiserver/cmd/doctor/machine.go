package doctor

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/cgroup"
)

// networked are file systems whose server knows nothing of subordinate ids,
// by the magic numbers of statfs(2).
var networked = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS",
	0x0BD00BD0:           "Lustre",
	0x47504653:           "GPFS",
	0x19830326:           "BeeGFS",
	unix.AFS_SUPER_MAGIC: "AFS",
	unix.AFS_FS_MAGIC:    "AFS",
	0xFF534D42:           "CIFS",
	0xFE534D42:           "SMB",
	unix.SMB_SUPER_MAGIC: "SMB",
	0x00C36400:           "Ceph",
	unix.V9FS_MAGIC:      "9p",
	0xAAD7AAEA:           "PanFS",
	0x013111A8:           "IBRIX",
}

// fileSystems are the names of others.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	0x2FC12FC1: "zfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.FUSE_SUPER_MAGIC: "fuse",
	unix.ECRYPTFS_SUPER_MAGIC: "ecryptfs", unix.RAMFS_MAGIC: "ramfs", 0xCA451A4E: "bcachefs",
}

// leastFree is below what it makes sense to begin with, in bytes.
const leastFree = 1 << 30

const moveData = "choose a directory on a local disk, such as /var/tmp or /scratch: kelp env --data-root DIR, or \"data-root\" in ~/.config/kelp/config.json"

func checkDataRoot(f Facts) Result {
	d := f.Data
	network, isNetwork := networked[d.Type]
	name := cmp.Or(network, fileSystems[d.Type], fmt.Sprintf("file system %#x", d.Type))
	where := fmt.Sprintf("%s on %s", d.Dir, name)
	switch {
	case d.ReadOnly:
		return fail(where+", which is read-only", moveData)
	case d.Err != nil:
		return fail(d.Dir+" cannot be used: "+d.Err.Error(), moveData)
	case isNetwork:
		return fail(where+": its server does not let you own files as your subordinate ids", moveData)
	case d.NoExec:
		return fail(where+", which is mounted noexec: containers could run nothing", moveData)
	case d.Free < leastFree:
		return warn(fmt.Sprintf("%s, where only %s are free", where, units.BytesSize(float64(d.Free))), "free some space there, or "+moveData)
	case d.Type == unix.TMPFS_MAGIC || d.Type == unix.RAMFS_MAGIC:
		return warn(where+": images and containers are gone when the machine restarts", moveData)
	}
	return pass(fmt.Sprintf("%s, %s free", where, units.BytesSize(float64(d.Free))))
}

func checkOverlay(f Facts) Result {
	err := f.Mounts.Overlay
	switch {
	case f.Mounts.Namespace != nil || f.Mounts.Tmpfs != nil:
		return fail("not tried: mounts are forbidden", "see user namespaces and mounts")
	case err == nil:
		return pass("native, in the user namespace")
	case f.Fuse:
		return warn("not native ("+err.Error()+"): fuse-overlayfs, which is slower", "use a newer kernel, or a data root on ext4, xfs, btrfs or tmpfs")
	}
	return warn("none ("+err.Error()+"): each container gets a full copy of its image", "ask the administrator to install fuse-overlayfs, or use a data root on ext4, xfs, btrfs or tmpfs")
}

func checkRuntimeDir(f Facts) Result {
	if f.RuntimeErr != nil {
		return fail(f.RuntimeErr.Error(), "set XDG_RUNTIME_DIR to a directory that is yours alone and on this machine")
	}
	return pass(f.RuntimeDir)
}

// limiting are the controllers that the limits of docker run need.
var limiting = []string{"cpu", "memory", "pids", "cpuset", "io"}

const delegateRemedy = "ask the administrator to write to /etc/systemd/system/user@.service.d/delegate.conf:\n" +
	"  [Service]\n  Delegate=cpu cpuset io memory pids\nand to run: systemctl daemon-reload; then log in again"

func checkCgroups(f Facts) Result {
	c := f.Cgroup
	if c.Driver == cgroup.None || len(c.Controllers) == 0 {
		return warn("no limits on containers: "+c.Reason, c.Hint)
	}
	var missing []string
	for _, name := range limiting {
		if !c.Has(name) {
			missing = append(missing, name)
		}
	}
	detail := fmt.Sprintf("v%d, made by %s, with %s", c.Version, c.Driver, strings.Join(c.Controllers, ", "))
	if len(missing) > 0 {
		return warn(detail+"; not "+strings.Join(missing, ", "), delegateRemedy)
	}
	return pass(detail)
}

func checkDocker(f Facts) Result {
	switch {
	case f.Docker == "":
		return warn("none in PATH; kelp has one: 'kelp docker'", fmt.Sprintf("run: ln -s %s ~/.local/bin/docker", f.Self))
	case filepath.Base(f.Docker) == "docker" && isKelp(f):
		return pass(f.Docker + ", which is kelp's own")
	}
	return pass(f.Docker)
}

func isKelp(f Facts) bool {
	target, err := filepath.EvalSymlinks(f.Docker)
	return err == nil && target == f.Self
}
