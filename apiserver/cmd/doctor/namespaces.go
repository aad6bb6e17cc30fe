package doctor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns"
	"github.com/kelp-engine/kelp/userns/subid"
)

func checkUser(f Facts) Result {
	if f.UID == 0 {
		return fail("you are root, and kelp is not for root", "run it as an ordinary user, for example with: su - USER")
	}
	where := ""
	if f.Container != "" {
		where = ", in a container (" + f.Container + ")"
	}
	return pass(fmt.Sprintf("%s, uid %d%s", f.User, f.UID, where))
}

// wantedKernel is the first that mounts overlay in user namespaces.
const wantedKernel = "5.11"

func checkKernel(f Facts) Result {
	if older(f.Kernel, wantedKernel) {
		return warn("Linux "+f.Kernel+" is older than "+wantedKernel+", the first to mount overlay file systems without root (some distributions have brought that to older ones)",
			"ask the administrator for a newer kernel, or install fuse-overlayfs")
	}
	return pass("Linux " + f.Kernel)
}

// older compares releases by their first two numbers.
func older(release, than string) bool {
	var a, b [2]int
	for i, v := range []*[2]int{&a, &b} {
		s := []string{release, than}[i]
		_, _ = fmt.Sscanf(s, "%d.%d", &v[0], &v[1])
	}
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}

func checkNamespaces(f Facts) Result {
	err := f.Mounts.Namespace
	if err == nil {
		return pass("can be made")
	}
	detail := "cannot be made: " + err.Error()
	switch {
	case f.Sysctls[sysctlClone] == "0":
		return fail(detail+" (kernel.unprivileged_userns_clone is 0)", sysctlRemedy("kernel.unprivileged_userns_clone=1"))
	case f.Sysctls[sysctlMax] == "0":
		return fail(detail+" (user.max_user_namespaces is 0)", sysctlRemedy("user.max_user_namespaces=28633"))
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fail(detail+" (there are as many as user.max_user_namespaces, "+f.Sysctls[sysctlMax]+", allows, or too many within each other)",
			sysctlRemedy("user.max_user_namespaces=28633"))
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fail(detail+" (the kernel has none)", "ask the administrator for a kernel with CONFIG_USER_NS")
	case f.Container != "":
		return fail(detail+" (the "+f.Container+" container forbids it)",
			"run the outer container with a seccomp profile that allows unshare and mount, for example docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined")
	}
	return fail(detail, "ask the administrator which security policy (SELinux, AppArmor, seccomp) forbids user namespaces to you")
}

func sysctlRemedy(setting string) string {
	return fmt.Sprintf("ask the administrator to run: echo %s > /etc/sysctl.d/90-kelp.conf && sysctl --system", setting)
}

func checkMounts(f Facts) Result {
	m := f.Mounts
	switch {
	case m.Namespace != nil:
		return fail("not tried: there is no user namespace", "see user namespaces")
	case m.Tmpfs != nil && f.Sysctls[sysctlApparmor] == "1":
		return fail("forbidden by AppArmor ("+m.Tmpfs.Error()+"; kernel.apparmor_restrict_unprivileged_userns is 1)", apparmorRemedy(f.Self))
	case m.Tmpfs != nil:
		return fail("forbidden: "+m.Tmpfs.Error(), "ask the administrator which security policy (SELinux, AppArmor, seccomp) forbids mounts in user namespaces")
	case m.Proc != nil:
		return fail("/proc cannot be mounted for containers: "+m.Proc.Error()+" (parts of /proc are covered here, as in a container)",
			"run the outer container with --security-opt systempaths=unconfined")
	}
	return pass("tmpfs and proc can be mounted")
}

// apparmorRemedy is the profile that lets one program, which has to be where
// users cannot replace it, use user namespaces.
func apparmorRemedy(self string) string {
	return fmt.Sprintf("ask the administrator to write to /etc/apparmor.d/kelp:\n"+
		"  abi <abi/4.0>,\n  include <tunables/global>\n  profile kelp %q flags=(unconfined) { userns, }\n"+
		"and to run: systemctl reload apparmor", self)
}

// wantedIDs is what images commonly use, the id of nobody included.
const wantedIDs = 65536

func checkSubIDs(f Facts) Result {
	if f.SubIDError != nil && (len(f.UIDs) == 0 || len(f.GIDs) == 0) {
		return fail("cannot be read: "+f.SubIDError.Error(), "make /etc/subuid and /etc/subgid readable")
	}
	if len(f.UIDs) == 0 || len(f.GIDs) == 0 {
		missing := "/etc/subuid and /etc/subgid"
		switch {
		case len(f.UIDs) > 0:
			missing = subid.GIDFile
		case len(f.GIDs) > 0:
			missing = subid.UIDFile
		}
		return fail("you have no range in "+missing, userns.AddSubIDs())
	}
	detail := fmt.Sprintf("uids %s, gids %s", join(f.UIDs), join(f.GIDs))
	if clash := clash(f); clash != "" {
		return warn(detail+"; "+clash, "ask the administrator for a range of your own: "+userns.AddSubIDs())
	}
	if n := min(subid.Total(f.UIDs), subid.Total(f.GIDs)); n < wantedIDs-1 {
		return warn(fmt.Sprintf("%s: only %d, so images with higher ids cannot be unpacked", detail, n), userns.AddSubIDs())
	}
	return pass(detail)
}

func join(ranges []subid.Range) string {
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ", ")
}

// clash says who else has one of the user's ids: their files and processes
// would be in each other's reach.
func clash(f Facts) string {
	for _, side := range []struct{ own, all []subid.Range }{{f.UIDs, f.AllUIDs}, {f.GIDs, f.AllGIDs}} {
		for _, mine := range side.own {
			for _, other := range side.all {
				if other.Owner != f.User && other.Owner != strconv.Itoa(f.UID) && mine.Overlaps(other) {
					return fmt.Sprintf("%s overlaps with %s of user %s", mine, other, other.Owner)
				}
			}
		}
	}
	for _, mine := range f.UIDs {
		for uid, name := range f.Accounts {
			if mine.Contains(uid) {
				return fmt.Sprintf("%s has the uid %d of user %s", mine, uid, name)
			}
		}
	}
	return ""
}

func checkUidmap(f Facts) Result {
	for name, t := range map[string]Tool{"newuidmap": f.Uidmap, "newgidmap": f.Gidmap} {
		if t.Path == "" {
			return fail(name+" is not installed", userns.InstallUidmap)
		}
	}
	if f.Mapping == nil {
		if len(f.UIDs) == 0 || len(f.GIDs) == 0 || f.Mounts.Namespace != nil {
			return pass(f.Uidmap.Path + " (not tried)")
		}
		return pass(f.Uidmap.Path + " maps your ids")
	}
	for _, t := range []Tool{f.Uidmap, f.Gidmap} {
		if !t.Privileged {
			return fail(t.Path+" has lost its privileges: "+f.Mapping.Error(), fmt.Sprintf("ask the administrator to run: chmod u+s %s %s", f.Uidmap.Path, f.Gidmap.Path))
		}
	}
	if own := f.Groups[0]; f.AccountGID >= 0 && own != f.AccountGID {
		return fail(fmt.Sprintf("your group is %d here, and %d in your account: newuidmap refuses to map your ids", own, f.AccountGID),
			"run kelp outside of newgrp(1) and sg(1)")
	}
	return fail("cannot map your ids: "+f.Mapping.Error(),
		"ask the administrator to check that your ranges in /etc/subuid and /etc/subgid are right, and that the file system of "+f.Uidmap.Path+" is not mounted nosuid")
}
