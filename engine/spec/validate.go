package spec

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
)

// DefaultRuntime is the only OCI runtime, libcontainer, by the name that
// clients know it by.
const DefaultRuntime = "runc"

// runtimes are the names that mean DefaultRuntime.
var runtimes = []string{"", DefaultRuntime, "kelp", "io.containerd.runc.v2"}

// Validate refuses what the container cannot have, in Docker's words, and
// lists what it will run without. In hc it clears what is discarded and fills
// in the defaults, so that inspect tells the truth.
//
// Mount points, networks, logs and restarts are validated by those who own them.
func Validate(c *container.Config, hc *container.HostConfig, h Host) (warnings []string, err error) {
	for _, check := range []func() error{
		func() error { return checkConfig(c) },
		func() error { return checkModes(hc) },
		func() error { return checkProcess(hc, h) },
		func() error { return checkSysctls(hc) },
		func() error { return checkUserns(hc, h) },
		func() error { return checkGroups(hc) },
		func() error { return checkOthers(hc) },
		func() error { return checkPaths(hc) },
		func() error { return checkUlimits(hc.Ulimits) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	limits, err := ValidateResources(&hc.Resources, h)
	if err != nil {
		return nil, err
	}
	devices, err := checkDevices(hc, h)
	if err != nil {
		return nil, err
	}
	warnings = slices.Concat(limits, devices, warnSecurity(hc, h), warnOOM(hc, h), warnNamespaces(hc, h), warnGroups(hc, h))
	fillDefaults(hc, h)
	return warnings, nil
}

func checkConfig(c *container.Config) error {
	if len(c.Hostname) > 64 {
		return fault.InvalidArgument("invalid hostname %q: it is longer than 64 characters", c.Hostname)
	}
	if len(c.Domainname) > 64 {
		return fault.InvalidArgument("invalid domain name %q: it is longer than 64 characters", c.Domainname)
	}
	for _, name := range []string{c.Hostname, c.Domainname} { // they stand in lines of /etc/hosts
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
			return fault.InvalidArgument("invalid hostname %q", name)
		}
	}
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return fault.InvalidArgument("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, err := ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	if err := CheckEnv(c.Env); err != nil {
		return err
	}
	for _, s := range slices.Concat(c.Cmd, c.Entrypoint, []string{c.User, c.WorkingDir, c.Hostname, c.Domainname}) {
		if strings.ContainsRune(s, 0) {
			return fault.InvalidArgument("%q has a zero byte", s)
		}
	}
	return nil
}

// CheckEnv refuses variables that have no name.
func CheckEnv(env []string) error {
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name == "" || strings.ContainsRune(kv, 0) {
			return fault.InvalidArgument("invalid environment variable: %s", kv)
		}
	}
	return nil
}

func checkModes(hc *container.HostConfig) error {
	switch {
	case !hc.IpcMode.Valid(), hc.IpcMode.IsContainer() && hc.IpcMode.Container() == "":
		return fault.InvalidArgument("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return fault.InvalidArgument("invalid PID mode: %v", hc.PidMode)
	case !hc.UTSMode.Valid():
		return fault.InvalidArgument("invalid UTS mode: %v", hc.UTSMode)
	case !hc.CgroupnsMode.Valid():
		return fault.InvalidArgument("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	case hc.Cgroup != "":
		return fault.InvalidArgument("invalid cgroup %q: a container cannot join another's cgroup here", hc.Cgroup)
	case !hc.Isolation.IsDefault():
		return fault.InvalidArgument("invalid --isolation: %q - linux only supports 'default'", hc.Isolation)
	case !slices.Contains(runtimes, hc.Runtime):
		return unknownRuntime(hc.Runtime)
	}
	return nil
}

func unknownRuntime(name string) error {
	err := fault.InvalidArgument("unknown or invalid runtime name: %s", name)
	if name == "nvidia" {
		return err.WithHint("GPUs need no runtime here: ask for them with '--gpus all'")
	}
	return err.WithHint("kelp runs containers itself, by the name %q", DefaultRuntime)
}

func checkProcess(hc *container.HostConfig, h Host) error {
	if _, err := normalizeCaps(hc.CapAdd); err != nil {
		return fault.InvalidArgument("invalid CapAdd: %w", err)
	}
	if _, err := normalizeCaps(hc.CapDrop); err != nil {
		return fault.InvalidArgument("invalid CapDrop: %w", err)
	}
	if _, err := capabilities(hc, hc.Privileged, 0, h); err != nil {
		return err
	}
	o, err := parseSecurityOpts(hc.SecurityOpt)
	if err != nil {
		return err
	}
	if err := checkSeccomp(o, h); err != nil {
		return err
	}
	if hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000 {
		return fault.InvalidArgument("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if hc.Umask != nil && *hc.Umask > 0o777 {
		return fault.InvalidArgument("invalid umask %#o: it must be at most 0777", *hc.Umask)
	}
	for _, g := range hc.GroupAdd {
		if g == "" {
			return fault.InvalidArgument("invalid group to add: it is empty")
		}
	}
	return nil
}

func checkOthers(hc *container.HostConfig) error {
	if hc.ShmSize < 0 {
		return fault.InvalidArgument("SHM size can not be less than 0")
	}
	if err := CheckConsole(hc.ConsoleSize); err != nil {
		return err
	}
	if _, ok := hc.Annotations[""]; ok {
		return fault.InvalidArgument("invalid Annotation: the empty string is not permitted as an annotation key")
	}
	if len(hc.StorageOpt) > 0 {
		return fault.InvalidArgument("--storage-opt is supported only for overlay over xfs with 'pquota' mount option").
			WithHint("the size of a container cannot be limited without privileges")
	}
	return nil
}

// MaxConsole is the most lines, and columns, that a terminal can have.
const MaxConsole = math.MaxUint16

// CheckConsole refuses a terminal's size, height first, that no terminal can
// have.
func CheckConsole(size [2]uint) error {
	if size[0] > MaxConsole || size[1] > MaxConsole {
		return fault.InvalidArgument("a terminal cannot have %d lines and %d columns", size[0], size[1])
	}
	return nil
}

func checkPaths(hc *container.HostConfig) error {
	for _, p := range slices.Concat(hc.MaskedPaths, hc.ReadonlyPaths) {
		if !path.IsAbs(p) {
			return fault.InvalidArgument("invalid masked or read-only path %q: it must be absolute", p)
		}
	}
	return nil
}

func warnSecurity(hc *container.HostConfig, h Host) (warnings []string) {
	o, err := parseSecurityOpts(hc.SecurityOpt)
	if err != nil {
		return nil // Validate has refused it
	}
	if o.apparmor != "" && o.apparmor != unconfined && !h.AppArmor {
		warnings = append(warnings, fmt.Sprintf("AppArmor is not available here. The profile %s is discarded.", o.apparmor))
	}
	for _, l := range o.labels {
		if l != "disable" {
			warnings = append(warnings, fmt.Sprintf("Containers are put under no SELinux label here. The label option %q is discarded.", l))
		}
	}
	if o.seccomp == "" && !hc.Privileged && !h.Seccomp {
		warnings = append(warnings, "Your kernel has no seccomp. The container runs without a filter of system calls.")
	}
	return warnings
}

func warnOOM(hc *container.HostConfig, h Host) []string {
	if hc.OomScoreAdj == 0 || hc.OomScoreAdj >= h.OOMScoreAdj {
		return nil
	}
	w := fmt.Sprintf("An ordinary user cannot lower the OOM score adjustment below %d. The value %d is discarded.", h.OOMScoreAdj, hc.OomScoreAdj)
	hc.OomScoreAdj = 0
	return []string{w}
}

func warnNamespaces(hc *container.HostConfig, h Host) []string {
	if hc.CgroupnsMode.IsPrivate() && !h.CgroupNamespace {
		hc.CgroupnsMode = container.CgroupnsModeHost
		return []string{"Cgroup namespaces need cgroup v2, which this host has not. The cgroup namespace mode is discarded."}
	}
	return nil
}

// fillDefaults names what the container gets where the client left it open.
func fillDefaults(hc *container.HostConfig, h Host) {
	hc.Runtime = DefaultRuntime
	if hc.ShmSize == 0 {
		hc.ShmSize = DefaultShmSize
	}
	if hc.IpcMode.IsEmpty() {
		hc.IpcMode = container.IPCModePrivate
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = container.CgroupnsModePrivate
		if !h.CgroupNamespace {
			hc.CgroupnsMode = container.CgroupnsModeHost
		}
	}
	if !hc.Privileged {
		hc.MaskedPaths, hc.ReadonlyPaths = MaskedPaths(hc), ReadonlyPaths(hc)
	}
}
