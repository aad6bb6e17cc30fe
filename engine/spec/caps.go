package spec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
)

// allCaps is the word for every capability.
const allCaps = "ALL"

// defaultCaps is what Docker gives a container that asks for nothing.
var defaultCaps = []string{
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_FSETID",
	"CAP_FOWNER",
	"CAP_MKNOD",
	"CAP_NET_RAW",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETFCAP",
	"CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE",
	"CAP_SYS_CHROOT",
	"CAP_KILL",
	"CAP_AUDIT_WRITE",
}

// knownCaps are the names of all capabilities that Linux has, as "CAP_CHOWN".
func knownCaps() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}

// normalizeCaps writes capabilities as "CAP_CHOWN" or "ALL" and refuses
// unknown ones.
func normalizeCaps(names []string) ([]string, error) {
	known := knownCaps()
	var out []string
	for _, given := range names {
		name := strings.ToUpper(given)
		if name == allCaps || name == "CAP_ALL" {
			out = append(out, allCaps)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(known, name) {
			return nil, fault.InvalidArgument("unknown capability: %q", given)
		}
		out = append(out, name)
	}
	return out, nil
}

// capabilities are those of a container's process. A user other than root
// gets them in the bounding set only, as after a change of user.
func capabilities(hc *container.HostConfig, privileged bool, uid uint32, h Host) (*specs.LinuxCapabilities, error) {
	bounding := h.Capabilities
	if !privileged {
		var err error
		if bounding, err = tweakCaps(hc.CapAdd, hc.CapDrop, h.Capabilities); err != nil {
			return nil, err
		}
	}
	c := &specs.LinuxCapabilities{Bounding: bounding}
	if uid == 0 {
		c.Permitted, c.Effective = bounding, bounding
	}
	return c, nil
}

// tweakCaps is Docker's default set, less drop and more add. One that the
// host lacks is an error when it was asked for by name, else left out.
func tweakCaps(add, drop, have []string) ([]string, error) {
	add, err := normalizeCaps(add)
	if err != nil {
		return nil, err
	}
	if drop, err = normalizeCaps(drop); err != nil {
		return nil, err
	}
	base := defaultCaps
	switch {
	case slices.Contains(add, allCaps):
		base = have
	case slices.Contains(drop, allCaps):
		base = nil
	}
	var set []string
	for _, name := range have { // in the order of the kernel's numbers
		if slices.Contains(base, name) && !slices.Contains(drop, name) || slices.Contains(add, name) {
			set = append(set, name)
		}
	}
	for _, name := range add {
		if name != allCaps && !slices.Contains(have, name) {
			return nil, fault.InvalidArgument("capability %s cannot be had: neither the kernel nor the user namespace gives it to kelp", name)
		}
	}
	return set, nil
}
