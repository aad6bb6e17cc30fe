package mounts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/kelp-engine/kelp/engine/fault"
)

// tmpfsFlags are the flags that a tmpfs may have; a flag and its opposite
// stand side by side, and the last one given holds.
var tmpfsFlags = [][]string{
	{"ro", "rw"},
	{"suid", "nosuid"},
	{"dev", "nodev"},
	{"exec", "noexec"},
	{"sync", "async"},
	{"dirsync"},
	{"mand", "nomand"},
	{"atime", "noatime"},
	{"diratime", "nodiratime"},
	{"relatime", "norelatime"},
	{"strictatime", "nostrictatime"},
	{"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"},
	{"defaults"},
}

// tmpfsValues are the options that have a value.
var tmpfsValues = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"}

// tmpfsDefaults is what a tmpfs is mounted with unless its options say else.
var tmpfsDefaults = []string{"noexec", "nosuid", "nodev"}

// parseTmpfs reads an entry of HostConfig.Tmpfs.
func parseTmpfs(target, options string) (p Point, err error) {
	if p.Target, err = cleanTarget(target); err != nil {
		return p, fault.InvalidArgument("invalid tmpfs mount %q: %w", target, err)
	}
	var list []string
	if options != "" {
		list = strings.Split(options, ",")
	}
	p.Type = mount.TypeTmpfs
	if p.TmpfsOptions, err = mergeTmpfs(list); err != nil {
		return p, fault.InvalidArgument("invalid tmpfs mount %q: %w", target, err)
	}
	p.ReadOnly = slices.Contains(p.TmpfsOptions, "ro")
	return p, nil
}

// mergeTmpfs puts options over the defaults: of each kind the last one holds.
func mergeTmpfs(options []string) ([]string, error) {
	byKind := map[string]string{}
	var order []string
	for _, o := range slices.Concat(tmpfsDefaults, options) {
		kind, err := tmpfsKind(o)
		if err != nil {
			return nil, err
		}
		if _, ok := byKind[kind]; !ok {
			order = append(order, kind)
		}
		byKind[kind] = o
	}
	out := make([]string, 0, len(order))
	for _, kind := range order {
		out = append(out, byKind[kind])
	}
	return out, nil
}

// tmpfsKind names what the option sets.
func tmpfsKind(o string) (string, error) {
	key, value, hasValue := strings.Cut(o, "=")
	if hasValue {
		if !slices.Contains(tmpfsValues, key) || value == "" || strings.ContainsAny(value, "\x00,") {
			return "", fmt.Errorf("invalid tmpfs option %q", o)
		}
		return key, nil
	}
	for _, kind := range tmpfsFlags {
		if slices.Contains(kind, o) {
			return kind[0], nil
		}
	}
	return "", fmt.Errorf("invalid tmpfs option %q", o)
}
