package spec

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
)

// unconfined is the word that lifts a confinement.
const unconfined = "unconfined"

// hidden are the paths that tell or change more of the host than a container
// should see; frozen are those that it may read but not change.
var (
	hidden = []string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts",
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi",
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap",
		"/sys/firmware",
	}
	frozen = []string{
		"/proc/bus",
		"/proc/fs",
		"/proc/irq",
		"/proc/sys",
		"/proc/sysrq-trigger",
	}
)

// thermal lists what each processor tells of its heat, from which others' work
// can be guessed (moby/moby#49560); not every machine has them.
func thermal(sysfs string) []string {
	dirs, _ := filepath.Glob(sysfs + "/devices/system/cpu/cpu[0-9]*/thermal_throttle") // the pattern is good
	return dirs
}

// hiddenHere is hidden, and what is to be hidden on this machine.
var hiddenHere = sync.OnceValue(func() []string { return slices.Concat(hidden, thermal("/sys")) })

// MaskedPaths and ReadonlyPaths are the container's: the client's, or
// Docker's when it named none, or none of a privileged container.
func MaskedPaths(hc *container.HostConfig) []string { return paths(hc, hc.MaskedPaths, hiddenHere()) }

// ReadonlyPaths are those below which the container can change nothing.
func ReadonlyPaths(hc *container.HostConfig) []string { return paths(hc, hc.ReadonlyPaths, frozen) }

func paths(hc *container.HostConfig, asked, standard []string) []string {
	switch {
	case asked != nil:
		return asked
	case hc.Privileged:
		return nil
	}
	return slices.Clone(standard)
}

// securityOpts is HostConfig.SecurityOpt, parsed.
type securityOpts struct {
	noNewPrivileges bool
	seccomp         string // "", "unconfined", "builtin" or a profile as JSON
	apparmor        string
	labels          []string
	writableCgroups *bool
}

// parseSecurityOpts refuses what Docker refuses, in its words.
func parseSecurityOpts(list []string) (o securityOpts, err error) {
	for _, opt := range list {
		switch opt {
		case "no-new-privileges":
			o.noNewPrivileges = true
			continue
		case "disable":
			o.labels = append(o.labels, opt)
			continue
		}
		k, v, ok := strings.Cut(opt, "=")
		if !ok {
			k, v, ok = strings.Cut(opt, ":")
		}
		if !ok {
			return o, fault.InvalidArgument("invalid --security-opt 1: %q", opt)
		}
		switch k {
		case "label":
			o.labels = append(o.labels, v)
		case "apparmor":
			o.apparmor = v
		case "seccomp":
			o.seccomp = v
		case "no-new-privileges":
			if o.noNewPrivileges, err = strconv.ParseBool(v); err != nil {
				return o, fault.InvalidArgument("invalid --security-opt 2: %q", opt)
			}
		case "writable-cgroups":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return o, fault.InvalidArgument("invalid --security-opt 2: %q", opt)
			}
			o.writableCgroups = &b
		default:
			return o, fault.InvalidArgument("invalid --security-opt 2: %q", opt)
		}
	}
	return o, nil
}

func noNewPrivileges(hc *container.HostConfig) bool {
	o, err := parseSecurityOpts(hc.SecurityOpt)
	return err == nil && o.noNewPrivileges
}

func writableCgroups(hc *container.HostConfig) bool {
	o, err := parseSecurityOpts(hc.SecurityOpt)
	if err == nil && o.writableCgroups != nil {
		return *o.writableCgroups
	}
	return hc.Privileged
}

// secure sets the confinements that need the rest of the spec.
func secure(s *specs.Spec, in Input) (err error) {
	s.Linux.MaskedPaths = MaskedPaths(in.HostConfig)
	s.Linux.ReadonlyPaths = ReadonlyPaths(in.HostConfig)
	if s.Process.ApparmorProfile, err = apparmor(in.HostConfig, in.Host); err != nil {
		return err
	}
	s.Linux.Seccomp, err = seccompProfile(in.HostConfig, in.Host, s)
	return err
}

// checkSeccomp refuses a profile of the client's that cannot be used.
func checkSeccomp(o securityOpts, h Host) error {
	if standardSeccomp(o) || o.seccomp == unconfined {
		return nil
	}
	_, err := customSeccomp(o.seccomp, h, &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	return err
}

func standardSeccomp(o securityOpts) bool { return o.seccomp == "" || o.seccomp == "builtin" }

// seccompProfile is the filter of system calls: the client's, or Docker's
// unless the container is privileged or the kernel has no filters.
func seccompProfile(hc *container.HostConfig, h Host, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	o, err := parseSecurityOpts(hc.SecurityOpt)
	switch {
	case err != nil || o.seccomp == unconfined:
		return nil, err
	case !standardSeccomp(o):
		return customSeccomp(o.seccomp, h, s)
	case hc.Privileged || !h.Seccomp:
		return nil, nil
	}
	return seccomp.GetDefaultProfile(s)
}

func customSeccomp(profile string, h Host, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	if !h.Seccomp {
		return nil, fault.InvalidArgument("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
	}
	p, err := seccomp.LoadProfile(profile, s)
	if err != nil {
		return nil, fault.InvalidArgument("cannot use the seccomp profile: %w", err)
	}
	return p, nil
}

// apparmor is the profile that processes are put under. kelp may load none,
// so there is no default: only one that the host has and the client names.
func apparmor(hc *container.HostConfig, h Host) (string, error) {
	o, err := parseSecurityOpts(hc.SecurityOpt)
	if err != nil || o.apparmor == unconfined || !h.AppArmor {
		return "", err
	}
	return o.apparmor, nil
}
