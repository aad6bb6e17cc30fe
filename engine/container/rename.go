package container

import (
	"context"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
)

// Rename gives a container another name.
func (m *Manager) Rename(ctx context.Context, ref, name string) error {
	if name == "" {
		return fault.InvalidArgument("Neither old nor new names may be empty")
	}
	name, err := checkName(name)
	if err != nil {
		return err
	}
	c, err := m.Find(ref)
	if err != nil {
		return err
	}
	release, err := c.beginOp(ctx)
	if err != nil {
		return err
	}
	defer release()
	old := c.Snapshot().Name
	if name == old {
		return fault.InvalidArgument("Renaming a container with the same name as its current name")
	}
	if err := (links{m.registry}).follow(c); err != nil { // a rename before this one
		return err
	}
	if _, err := m.reserve(c.id, name); err != nil {
		return err
	}
	linked := len(links{m.registry}.all()[c.id]) > 0
	err = m.change(c, power, func(r *Record) {
		if r.Name = name; linked {
			r.FormerName = old
		}
	})
	if err != nil {
		m.unreserve(c.id, name)
		return err
	}
	crashpoint.Hit("container.rename.saved")
	if linked {
		logFailure(c.Snapshot(), "rename the links", links{m.registry}.follow(c))
	} else {
		m.unreserve(c.id, old)
	}
	logFailure(c.Snapshot(), "rename the endpoints", m.o.Networks.Renamed(context.WithoutCancel(ctx), c.Snapshot()))
	m.publish(c.Snapshot(), events.ActionRename, "oldName", old)
	return nil
}
