package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// cgroupRule is a string of HostConfig.DeviceCgroupRules.
var cgroupRule = regexp.MustCompile(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`)

// checkDevices refuses devices that cannot be had, and warns of rules that
// change nothing.
func checkDevices(hc *container.HostConfig, h Host) (warnings []string, err error) {
	for _, rule := range hc.DeviceCgroupRules {
		if !cgroupRule.MatchString(rule) {
			return nil, fault.InvalidArgument("invalid device cgroup rule format: '%s'", rule)
		}
	}
	if len(hc.DeviceCgroupRules) > 0 {
		warnings = append(warnings, "Device cgroup rules cannot be set without privileges. What a container can open is decided by the permissions of the files in its /dev. Device cgroup rules discarded.")
		hc.DeviceCgroupRules = nil
	}
	for _, d := range hc.Devices {
		if !validPermissions(d.CgroupPermissions) {
			return nil, fault.InvalidArgument("invalid device mode: %s", d.CgroupPermissions)
		}
		if d.PathInContainer != "" && !path.IsAbs(d.PathInContainer) {
			return nil, fault.InvalidArgument("invalid device path %q: it must be absolute", d.PathInContainer)
		}
		list, err := findDevices(d)
		if err != nil {
			return nil, err
		}
		for _, dev := range list {
			if w := dev.warning(d.CgroupPermissions); w != "" {
				warnings = append(warnings, w)
			}
		}
	}
	return warnings, checkRequests(hc.DeviceRequests)
}

func validPermissions(p string) bool {
	for i, c := range p {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(p[:i], c) {
			return false
		}
	}
	return true
}

// device is a device file of the host and its path in the container.
type device struct {
	host, container string
	stat            unix.Stat_t
}

// findDevices lists what a mapping means: one device, or all in a directory.
func findDevices(m container.DeviceMapping) ([]device, error) {
	target := m.PathInContainer
	if target == "" {
		target = m.PathOnHost
	}
	host, err := filepath.EvalSymlinks(m.PathOnHost)
	if err != nil {
		return nil, fault.InvalidArgument("error gathering device information while adding custom device %q: %w", m.PathOnHost, plain(err))
	}
	info, err := os.Stat(host)
	if err != nil {
		return nil, fault.InvalidArgument("error gathering device information while adding custom device %q: %w", m.PathOnHost, plain(err))
	}
	if !info.IsDir() {
		d, err := statDevice(host, target)
		if err != nil {
			return nil, fault.InvalidArgument("error gathering device information while adding custom device %q: %w", m.PathOnHost, err)
		}
		return []device{d}, nil
	}
	list := devicesIn(host, target)
	if len(list) == 0 {
		return nil, fault.InvalidArgument("error gathering device information while adding custom device %q: no device in it can be opened by you", m.PathOnHost)
	}
	return list, nil
}

// devicesIn lists the devices below dir that the user may open. Those that he
// may not would be of no use.
func devicesIn(dir, target string) (list []device) {
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		d, err := statDevice(p, path.Join(target, strings.TrimPrefix(p, dir)))
		if err == nil {
			list = append(list, d)
		}
		return nil
	})
	return list
}

// statDevice looks at a device that the user can open at least for reading or
// for writing.
func statDevice(host, target string) (d device, err error) {
	d = device{host: host, container: path.Clean(target)}
	if err := unix.Stat(host, &d.stat); err != nil {
		return d, err
	}
	if k := d.stat.Mode & unix.S_IFMT; k != unix.S_IFBLK && k != unix.S_IFCHR {
		return d, errors.New("not a device node")
	}
	if !mayOpen(host, unix.R_OK) && !mayOpen(host, unix.W_OK) {
		return d, errors.New("you have no permission to open it")
	}
	return d, nil
}

func mayOpen(path string, mode uint32) bool {
	return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS) == nil
}

// warning says what the container will not be able to do with the device, as
// it has neither the host's groups nor kelp's user unless as root.
func (d device) warning(permissions string) string {
	var mode uint32
	for p, bit := range map[string]uint32{"r": 4, "w": 2} {
		if strings.Contains(permissions, p) || permissions == "" {
			mode |= bit
		}
	}
	granted := d.stat.Mode & 7
	if d.stat.Uid == 0 { // the user's own, who is root in the container
		granted |= d.stat.Mode >> 6 & 7
	}
	if granted&mode == mode {
		return ""
	}
	return fmt.Sprintf("The container may be unable to open the device %s: the host gives access by a group, and containers have none of the host's groups.", d.host)
}

// addDevices binds devices into the container's /dev: a user namespace can
// make no device files.
func addDevices(s *specs.Spec, in Input) error {
	var list []device
	if in.HostConfig.Privileged {
		list = privilegedDevices()
	}
	for _, m := range in.HostConfig.Devices {
		found, err := findDevices(m)
		if err != nil {
			return err
		}
		list = append(list, found...)
	}
	taken := map[string]bool{}
	for _, m := range s.Mounts {
		taken[m.Destination] = true
	}
	for _, d := range list {
		if !taken[d.container] {
			taken[d.container] = true
			s.Mounts = append(s.Mounts, specs.Mount{
				Destination: d.container, Type: "bind", Source: d.host,
				Options: []string{"bind", "rprivate", "nosuid", "noexec"},
			})
		}
	}
	return addRequests(s, in.HostConfig.DeviceRequests)
}

// ownDevices are what the runtime puts into /dev itself, or what would be the
// wrong one in a container.
var ownDevices = []string{
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
	"/dev/console", "/dev/ptmx", "/dev/pts", "/dev/shm", "/dev/mqueue",
}

// privilegedDevices are all that the user may open.
func privilegedDevices() []device {
	return slices.DeleteFunc(devicesIn("/dev", "/dev"), func(d device) bool {
		return slices.ContainsFunc(ownDevices, func(own string) bool {
			return d.host == own || strings.HasPrefix(d.host, own+"/")
		})
	})
}

// plain takes the operation and path, which the message has already, from an error.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
