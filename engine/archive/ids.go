package archive

import specs "github.com/opencontainers/runtime-spec/specs-go"

// IDs are the mappings of a container's user namespace, none for one that has
// kelp's: archives speak of users as the container does.
type IDs struct{ Users, Groups []specs.LinuxIDMapping }

// inside are the container's ids of a file's owner.
func (m IDs) inside(uid, gid uint32) (int, int) {
	return translate(m.Users, uid, hostID, containerID), translate(m.Groups, gid, hostID, containerID)
}

// outside is inside in the other direction.
func (m IDs) outside(uid, gid int) (int, int) {
	return translate(m.Users, uint32(uid), containerID, hostID), translate(m.Groups, uint32(gid), containerID, hostID)
}

func hostID(m specs.LinuxIDMapping) uint32      { return m.HostID }
func containerID(m specs.LinuxIDMapping) uint32 { return m.ContainerID }

// translate finds an id that is counted as from does; what is not mapped is
// root's.
func translate(list []specs.LinuxIDMapping, id uint32, from, to func(specs.LinuxIDMapping) uint32) int {
	if len(list) == 0 {
		return int(id)
	}
	for _, m := range list {
		if start := from(m); id >= start && id-start < m.Size {
			return int(to(m) + id - start)
		}
	}
	if id == 0 {
		return 0
	}
	return translate(list, 0, from, to)
}
