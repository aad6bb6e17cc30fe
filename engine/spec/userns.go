package spec

import (
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
)

// keepID is the user namespace mode that shows the user, who is root in all
// other containers, under an id of his own.
const keepID = "keep-id"

// UsernsAnnotation names a mode for clients that refuse to send one.
const UsernsAnnotation = "kelp.userns"

// IDs are a user and a group.
type IDs struct{ UID, GID uint32 }

// usernsMode is what the client asks for.
func usernsMode(hc *container.HostConfig) string {
	if hc.UsernsMode != "" {
		return string(hc.UsernsMode)
	}
	return hc.Annotations[UsernsAnnotation]
}

// KeptIDs returns who the user is in a container with a user namespace of its
// own, nil in one that shares kelp's, where he is root.
func KeptIDs(hc *container.HostConfig, h Host) (*IDs, error) {
	mode := usernsMode(hc)
	name, options, _ := strings.Cut(mode, ":")
	switch {
	case mode == "", mode == "host":
		return nil, nil
	case name != keepID:
		return nil, fault.InvalidArgument("invalid userns mode: %v", mode).
			WithHint("use 'host', or 'keep-id' with or without ':uid=N,gid=N'")
	}
	ids := &IDs{UID: h.User.UID, GID: h.User.GID}
	if options == "" {
		return ids, nil
	}
	for _, o := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		id, err := strconv.ParseUint(value, 10, 31)
		switch {
		case key == "uid" && err == nil:
			ids.UID = uint32(id)
		case key == "gid" && err == nil:
			ids.GID = uint32(id)
		default:
			return nil, fault.InvalidArgument("invalid userns mode: %v: unknown option %q", mode, o).
				WithHint("the options are uid=N and gid=N")
		}
	}
	return ids, nil
}

// Mappings are those of a container where kelp's root, who is the user, has
// the id kept. All other ids there are follow one another.
func Mappings(kept uint32, h Host) []specs.LinuxIDMapping {
	below := min(kept, h.MaxID)
	var all []specs.LinuxIDMapping
	if below > 0 {
		all = append(all, specs.LinuxIDMapping{ContainerID: 0, HostID: 1, Size: below})
	}
	all = append(all, specs.LinuxIDMapping{ContainerID: kept, HostID: 0, Size: 1})
	if above := h.MaxID - below; above > 0 {
		all = append(all, specs.LinuxIDMapping{ContainerID: kept + 1, HostID: below + 1, Size: above})
	}
	return all
}

// checkUserns refuses a user namespace of the container's own together with
// namespaces that belong to another one.
func checkUserns(hc *container.HostConfig, h Host) error {
	kept, err := KeptIDs(hc, h)
	switch {
	case err != nil || kept == nil:
		return err
	case h.MaxID == 0:
		return fault.InvalidArgument("cannot use the userns mode %s: you have no subordinate ids", usernsMode(hc)).
			WithHint("ask the administrator for subordinate ids in /etc/subuid and /etc/subgid")
	case hc.PidMode.IsHost(), hc.PidMode.IsContainer():
		return fault.InvalidArgument("the userns mode %s needs a pid namespace of the container's own", usernsMode(hc))
	}
	return nil
}

// keepIDs gives the container a user namespace of its own. Its user, when
// neither the client nor the image names one, is the user.
func keepIDs(s *specs.Spec, in Input) error {
	kept, err := KeptIDs(in.HostConfig, in.Host)
	if err != nil || kept == nil {
		return err
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = Mappings(kept.UID, in.Host)
	s.Linux.GIDMappings = Mappings(kept.GID, in.Host)
	return nil
}

// UserOf is the user that a container's processes have, as in Config.User.
func UserOf(name string, hc *container.HostConfig, h Host) (string, error) {
	if name != "" {
		return name, nil
	}
	kept, err := KeptIDs(hc, h)
	if err != nil || kept == nil {
		return "", err
	}
	return strconv.FormatUint(uint64(kept.UID), 10) + ":" + strconv.FormatUint(uint64(kept.GID), 10), nil
}
