package mounts

// TmpfsOptions are the options that the point's tmpfs is mounted with.
func TmpfsOptions(p Point) ([]string, error) {
	o := []string{"noexec", "nosuid", "nodev"}
	return append(o, p.TmpfsOptions...), nil
}
