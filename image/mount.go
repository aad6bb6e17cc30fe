package image

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"sync"

	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
	"golang.org/x/sys/unix"
)

// MountRootFS mounts the root file system and returns where. Each call needs
// an UnmountRootFS; mounts survive the engine.
func (s rootFSs) MountRootFS(containerID string) (string, error) {
	held := s.mounting.of(containerID)
	held.Lock()
	defer held.Unlock()
	l, err := s.rootFS(containerID)
	if err != nil {
		return "", err
	}
	p, err := s.mount(l)
	if err != nil {
		return "", fmt.Errorf("cannot mount the root file system of container %s: %w", containerID, err)
	}
	if len(l.UIDMap) == 0 {
		return p, nil
	}
	// The store gives the root directory to kelp's root with each mount.
	if err := os.Lchown(p, outside(l.UIDMap), outside(l.GIDMap)); err != nil {
		return "", errors.Join(fmt.Errorf("cannot mount the root file system of container %s: %w", containerID, err), s.unmount(containerID))
	}
	return p, nil
}

// mount has the store mount and count. A temporary root file system is mounted
// before, as the store lets only its own containers be: "volatile" (Linux
// 5.10), so that neither its end nor a sync from inside waits for the disk.
//
// Preconditions: the mounting lock is held for writing.
func (s rootFSs) mount(l *storage.Layer) (string, error) {
	if temporary, _ := l.Flags[temporaryFlag].(bool); temporary {
		driver, err := s.store.GraphDriver()
		if err != nil {
			return "", err
		}
		if _, err := driver.Get(l.ID, drivers.MountOpts{Volatile: true}); err != nil {
			return "", err
		}
		defer driver.Put(l.ID)
	}
	return s.store.Mount(l.ID, "")
}

// UnmountRootFS takes back one MountRootFS. It is no error when nothing is
// mounted.
//
// Whoever lets go of an overlay last has the kernel write out all that is
// dirty on the disk below. The store would do so with its lock held, so that
// no other container could start meanwhile; instead the last to let go is a
// goroutine, for which only the next mount waits.
func (s rootFSs) UnmountRootFS(containerID string) error {
	held := s.mounting.of(containerID)
	held.RLock()
	pin := s.pin(containerID)
	err := s.unmount(containerID)
	go func() {
		defer held.RUnlock()
		if pin >= 0 {
			unix.Close(pin)
		}
	}()
	return err
}

// pin keeps a mounted root file system from ending until the descriptor is
// closed; -1 is none.
func (s rootFSs) pin(containerID string) int {
	l, err := s.store.Layer(containerID)
	if err != nil || l.MountPoint == "" || s.driver.name != driverOverlay {
		return -1
	}
	fd, err := unix.Open(l.MountPoint, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

func (s rootFSs) unmount(containerID string) error {
	_, err := s.store.Unmount(containerID, false)
	if err != nil && !errors.Is(err, storage.ErrLayerNotMounted) && !errors.Is(err, storage.ErrLayerUnknown) {
		return fmt.Errorf("cannot unmount the root file system of container %s: %w", containerID, err)
	}
	return nil
}

// stripes are locks of which each serves some of the containers. Who mounts
// holds one for writing; who unmounts, for reading.
type stripes struct {
	seed  maphash.Seed
	locks [64]sync.RWMutex
}

func (s *stripes) of(id string) *sync.RWMutex {
	return &s.locks[maphash.String(s.seed, id)%uint64(len(s.locks))]
}
