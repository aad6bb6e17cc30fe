// Package images makes the images that tests run: from Debian's static
// busybox, in every format that an engine must read, and in the hostile forms
// that it must refuse. All that it makes is deterministic.
//
// It must not need a network, a container engine or any privilege.
package images

import (
	"fmt"
	"os"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Created is the creation time of every test image.
var Created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Image is what an image is made of, before it takes a format.
type Image struct {
	Platform ocispec.Platform
	Config   Config
	Layers   []Layer
}

// Config is an image's run configuration, with the fields that Docker adds to
// those of OCI.
type Config struct {
	ocispec.ImageConfig
	Healthcheck *Healthcheck `json:"Healthcheck,omitempty"`
	OnBuild     []string     `json:"OnBuild,omitempty"`
	Shell       []string     `json:"Shell,omitempty"`
}

// Healthcheck is how Docker checks a container of the image. Durations are in
// nanoseconds on the wire.
type Healthcheck struct {
	Test        []string      `json:",omitempty"`
	Interval    time.Duration `json:",omitempty"`
	Timeout     time.Duration `json:",omitempty"`
	StartPeriod time.Duration `json:",omitempty"`
	Retries     int           `json:",omitempty"`
}

// BusyboxPath is the static busybox that Debian's busybox-static installs.
const BusyboxPath = "/bin/busybox"

// Busybox returns an image of one layer that holds busybox, a link for each
// common applet, and the files under /etc that programs look at.
func Busybox() (*Image, error) {
	program, err := os.ReadFile(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("cannot make the busybox image: %w: run hack/setup-test-user", err)
	}
	layer := Layer{
		Dir("bin", 0o755), Dir("etc", 0o755), Dir("home", 0o755), Dir("root", 0o700), Dir("tmp", 0o1777),
		Dir("usr", 0o755), Dir("var", 0o755), Dir("home/user", 0o755).Owned(1000, 1000),
		File("bin/busybox", 0o755, program),
		File("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")),
		File("etc/group", 0o644, []byte("root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n")),
		File("etc/shadow", 0o600, []byte("root:*:::::::\n")),
	}
	for applet := range strings.FieldsSeq(applets) {
		layer = append(layer, Symlink("bin/"+applet, "busybox"))
	}
	return &Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Config: Config{ImageConfig: ocispec.ImageConfig{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd: []string{"sh"},
		}},
		Layers: []Layer{layer},
	}, nil
}

const applets = `[ arch ash awk base64 basename cat chmod chown chroot cmp cp cut date dd df diff dirname dmesg du
echo egrep env expr false fgrep find free fsync getopt grep groups gunzip gzip head hexdump hostname httpd id ifconfig
ip kill killall less link ln ls md5sum mkdir mkfifo mknod mktemp more mount mountpoint mv nc netstat nohup nproc
nslookup od paste pgrep pidof ping pkill printenv printf ps pwd readlink realpath rm rmdir route sed seq setsid sh
sha256sum sleep sort split stat stty sync sysctl tac tail tar tee telnet test time timeout top touch tr true truncate
tty umount uname uniq unlink unshare uptime usleep vi wc wget which who whoami xargs yes zcat`

// With returns a copy of im that has further layers and, when edit is not nil,
// an edited configuration.
func (im *Image) With(edit func(*Config), layers ...Layer) *Image {
	c := *im
	c.Layers = append(append([]Layer(nil), im.Layers...), layers...)
	if edit != nil {
		edit(&c.Config)
	}
	return &c
}

// ForPlatform returns a copy of im that claims to be for another platform.
func (im *Image) ForPlatform(p ocispec.Platform) *Image {
	c := *im
	c.Platform = p
	return &c
}

// config returns the image's configuration document.
func (im *Image) config(diffIDs []string) any {
	type history struct {
		Created   time.Time `json:"created"`
		CreatedBy string    `json:"created_by"`
	}
	type rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	doc := struct {
		ocispec.Platform
		Created time.Time `json:"created"`
		Config  Config    `json:"config"`
		RootFS  rootFS    `json:"rootfs"`
		History []history `json:"history"`
	}{Platform: im.Platform, Created: Created, Config: im.Config, RootFS: rootFS{"layers", diffIDs}}
	for i := range im.Layers {
		doc.History = append(doc.History, history{Created, fmt.Sprintf("test layer %d", i+1)})
	}
	return doc
}
