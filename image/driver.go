package image

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage"
	"go.podman.io/storage/drivers/overlay"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// The storage drivers, best first.
const (
	driverOverlay = "overlay"
	driverFuse    = "fuse-overlayfs"
	driverVFS     = "vfs"
)

// driverChoice is a driver and why no better one was taken.
type driverChoice struct{ name, reason string }

// openDriver opens the store with the wanted driver, with the one that the
// store has already, or with the first that works.
func openDriver(o Options) (storage.Store, driverChoice, error) {
	switch o.Driver {
	case "":
	case driverOverlay, driverFuse, driverVFS:
		st, err := openStore(o, o.Driver)
		return st, driverChoice{name: o.Driver}, err
	default:
		return nil, driverChoice{}, fault.InvalidArgument("unknown storage driver %q", o.Driver).
			WithHint("use one of %s, %s, %s", driverOverlay, driverFuse, driverVFS)
	}
	order := []string{driverOverlay, driverFuse, driverVFS}
	if has(o.GraphRoot, driverVFS) && !has(o.GraphRoot, driverOverlay) {
		// Another driver would not see the images that are there.
		st, err := openStore(o, driverVFS)
		return st, driverChoice{driverVFS, "the data root already holds images of this driver"}, err
	}
	var reasons []string
	for _, name := range order {
		st, err := openStore(o, name)
		if err == nil {
			return st, driverChoice{name, strings.Join(reasons, "; ")}, nil
		}
		if name != driverVFS {
			slog.Warn("storage driver not usable", "driver", name, "error", err)
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", name, err))
		if name == driverFuse && has(o.GraphRoot, driverOverlay) {
			break // vfs would hide the images that are there
		}
	}
	return nil, driverChoice{}, fault.Unavailable("no storage driver works in %s: %s", o.GraphRoot, strings.Join(reasons, "; "))
}

// has reports whether root holds images of the driver.
func has(root, driver string) bool {
	fi, err := os.Stat(filepath.Join(root, driver+"-images", "images.json"))
	return err == nil && fi.Size() > 2
}

func openStore(o Options, driver string) (storage.Store, error) {
	options := types.StoreOptions{GraphRoot: o.GraphRoot, RunRoot: o.RunRoot, GraphDriverName: driver}
	switch driver {
	case driverOverlay:
		if strings.ContainsAny(o.GraphRoot, ",:\\") {
			return nil, fault.NotImplemented("overlay mounts allow no comma, colon or backslash in the path %s", o.GraphRoot)
		}
		home := filepath.Join(o.GraphRoot, driverOverlay)
		runHome := filepath.Join(o.RunRoot, driverOverlay)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(runHome, 0o700); err != nil {
			return nil, err
		}
		// The library takes fuse-overlayfs without a word; kelp says why.
		if native, err := overlay.SupportsNativeOverlay(home, runHome); err != nil {
			return nil, err
		} else if !native {
			return nil, fault.NotImplemented("the kernel or the file system of %s allows no overlay mounts in a user namespace", o.GraphRoot)
		}
	case driverFuse:
		program := findProgram(driverFuse)
		if program == "" {
			return nil, fault.NotImplemented("the program fuse-overlayfs is not installed")
		}
		if err := keepsXattrs(o.GraphRoot); err != nil {
			return nil, fault.NotImplemented("the file system of %s keeps no extended attributes, which fuse-overlayfs needs: %w", o.GraphRoot, err)
		}
		options.GraphDriverName = driverOverlay
		options.GraphDriverOptions = append(options.GraphDriverOptions, "overlay.mount_program="+program)
	}
	if o.IgnoreOwner {
		options.GraphDriverOptions = append(options.GraphDriverOptions, options.GraphDriverName+".ignore_chown_errors=true")
	}
	for _, dir := range o.SharedStores {
		options.GraphDriverOptions = append(options.GraphDriverOptions, options.GraphDriverName+".imagestore="+dir)
	}
	return storage.GetStore(options)
}

func opaqueXattr() string { return archive.GetOverlayXattrName("opaque") }

// keepsXattrs says why users cannot give extended attributes to what is in dir.
func keepsXattrs(dir string) error {
	const name = "user.kelp.probe"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Setxattr(dir, name, nil, 0); err != nil {
		return err
	}
	return unix.Removexattr(dir, name)
}

// findProgram looks for an executable in PATH.
func findProgram(name string) string {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && filepath.IsAbs(path) {
			return path
		}
	}
	return ""
}
