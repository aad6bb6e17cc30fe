package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// Damage is what Repair found.
type Damage struct {
	// Repaired says in words what works again.
	Repaired []string
	// Lost are the ports that were removed: only their containers can have
	// them anew.
	Lost []string
	// Reopened says that the uplink has another Socket. The old one is closed
	// by closing OldSocket.
	Reopened  bool
	OldSocket interface{ Close() error }
}

// Repair brings back what was removed, taken down or taken off the bridge by
// somebody who entered its namespace. u is the bridge's uplink or nil.
func (b *Bridge) Repair(u *Uplink) (Damage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, err := b.Netlink()
	if err != nil {
		return Damage{}, err
	}
	r := repair{Bridge: b, h: h}
	if err := r.device(); err != nil {
		return r.Damage, fmt.Errorf("cannot repair the bridge %s: %w", b.cfg.Name, err)
	}
	for name, index := range b.ports {
		if err := r.port(name, index); err != nil {
			return r.Damage, fmt.Errorf("cannot repair the port %s: %w", name, err)
		}
	}
	if u != nil {
		if err := r.uplink(u); err != nil {
			return r.Damage, fmt.Errorf("cannot repair the uplink: %w", err)
		}
	}
	return r.Damage, nil
}

// repair is one Repair under way, with the bridge's lock held.
type repair struct {
	*Bridge
	Damage
	h *netlink.Handle
}

func (r *repair) found(what string) { r.Repaired = append(r.Repaired, what) }

func isGone(err error) bool {
	_, gone := errors.AsType[netlink.LinkNotFoundError](err)
	return gone
}

func isUp(dev netlink.Link) bool { return dev.Attrs().Flags&net.FlagUp != 0 }

func (r *repair) device() error {
	dev, err := r.h.LinkByIndex(r.index)
	if isGone(err) {
		r.found("its bridge was removed")
		return r.makeDevice()
	}
	if err != nil || isUp(dev) {
		return err
	}
	r.found("its bridge was down")
	if err := r.h.LinkSetUp(dev); err != nil {
		return err
	}
	return addAddresses(r.h, dev, r.cfg.Gateways) // those of IPv6 end with it
}

func (r *repair) port(name string, index int) error {
	dev, err := r.h.LinkByIndex(index)
	if isGone(err) {
		r.Lost = append(r.Lost, name)
		delete(r.ports, name)
		return nil
	}
	if err != nil || isUp(dev) && dev.Attrs().MasterIndex == r.index {
		return err
	}
	r.found("port " + name + " was down or off its bridge")
	if dev.Attrs().MasterIndex != r.index {
		if err := r.h.LinkSetMasterByIndex(dev, r.index); err != nil {
			return err
		}
		if r.cfg.Isolated {
			if err := r.h.LinkSetIsolated(dev, true); err != nil {
				return err
			}
		}
	}
	return r.h.LinkSetUp(dev)
}

func (r *repair) uplink(u *Uplink) error {
	outer, err := u.hub.Netlink()
	if err != nil {
		return err
	}
	near, err := r.h.LinkByIndex(u.index)
	var far netlink.Link
	if err == nil {
		far, err = outer.LinkByName(u.device)
	}
	switch {
	case isGone(err):
		r.found("its uplink was removed")
		old := u.Socket
		if err := u.open(); err != nil {
			return err
		}
		r.Reopened, r.OldSocket = true, old
		return nil
	case err != nil || isUp(near) && isUp(far):
		return err
	}
	r.found("its uplink was down")
	if err := errors.Join(r.h.LinkSetUp(near), outer.LinkSetUp(far)); err != nil {
		return err
	}
	return u.route() // routes end when their device goes down
}
