package passwd

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var ann = User{Name: "ann", Gecos: "Ann,,,", Home: "/nfs/ann", UID: 5000, Group: "sea", GID: 600}

// rootfs makes a root file system of files, each with its content, or where
// the name ends with @, a link to it.
func rootfs(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for name, content := range files {
		link := strings.HasSuffix(name, "@")
		p := filepath.Join(root, strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		switch {
		case link:
			err = os.Symlink(content, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestIntroduce(t *testing.T) {
	const root = "root:x:0:0:root:/root:/bin/sh\n"
	for name, tt := range map[string]struct {
		files   map[string]string
		user    func(*User)
		mounted []string
		passwd  string
		group   string
		made    string // a directory
		not     string // a path that is not there
	}{
		"an ordinary image": {
			files:  map[string]string{"etc/passwd": root, "etc/group": "root:x:0:\n"},
			passwd: root + "ann:*:5000:600:Ann,,,:/nfs/ann:/bin/sh\n", group: "root:x:0:\nsea:*:600:\n", made: "nfs/ann",
		},
		"files without a last newline": {
			files:  map[string]string{"etc/passwd": strings.TrimSpace(root), "etc/group": "root:x:0:"},
			passwd: root + "ann:*:5000:600:Ann,,,:/nfs/ann:/bin/sh\n", group: "root:x:0:\nsea:*:600:\n",
		},
		"an image that has the ids": {
			files:  map[string]string{"etc/passwd": "node:x:5000:1::/home/node:/bin/sh\n", "etc/group": "staff:x:600:\n"},
			passwd: "node:x:5000:1::/home/node:/bin/sh\n", group: "staff:x:600:\n", not: "nfs",
		},
		"names and homes of others": {
			files:  map[string]string{"etc/passwd": "ann:x:1000:1::/nfs/ann:/bin/sh\n", "etc/group": "sea:x:1:\n", "nfs/ann": "a file"},
			passwd: "ann:x:1000:1::/nfs/ann:/bin/sh\nann-5000:*:5000:600:Ann,,,:/home/ann-5000:/bin/sh\n", group: "sea:x:1:\nsea-600:*:600:\n",
			made: "home/ann-5000",
		},
		"an image without anything": {
			passwd: "ann:*:5000:600:Ann,,,:/nfs/ann:/bin/sh\n", group: "sea:*:600:\n", made: "nfs/ann",
		},
		"a home in a mount": {
			mounted: []string{"/nfs"},
			passwd:  "ann:*:5000:600:Ann,,,:/nfs/ann:/bin/sh\n", group: "sea:*:600:\n", not: "nfs",
		},
		"a user without a home": {
			user:   func(u *User) { u.Home = "" },
			passwd: "ann:*:5000:600:Ann,,,:/home/ann:/bin/sh\n", group: "sea:*:600:\n", made: "home/ann",
		},
		"no place for a home": {
			files:  map[string]string{"nfs@": "/gone", "home": "a file"},
			passwd: "ann:*:5000:600:Ann,,,:/:/bin/sh\n", group: "sea:*:600:\n",
		},
		"root": {
			user: func(u *User) { u.UID, u.GID = 0, 0 }, not: "etc",
		},
		"links within the image": {
			files:  map[string]string{"usr/lib/passwd": root, "etc/passwd@": "../usr/lib/passwd", "etc/group@": "/gone", "srv/": "", "nfs@": "../../../srv"},
			passwd: root + "ann:*:5000:600:Ann,,,:/nfs/ann:/bin/sh\n", group: "sea:*:600:\n", made: "srv/ann",
		},
		"an /etc that is no directory": {
			files: map[string]string{"etc": "a file"},
		},
	} {
		dir := rootfs(t, tt.files)
		u := ann
		if tt.user != nil {
			tt.user(&u)
		}
		old := syscall.Umask(0o077)
		err := Introduce(dir, u, tt.mounted)
		syscall.Umask(old)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for file, want := range map[string]string{Users: tt.passwd, Groups: tt.group} {
			got, _ := os.ReadFile(filepath.Join(dir, file))
			if string(got) != want {
				t.Errorf("%s: %s is %q, want %q", name, file, got, want)
			}
		}
		if st, err := os.Lstat(filepath.Join(dir, tt.made)); err != nil || !st.IsDir() {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, tt.not)); tt.not != "" && err == nil {
			t.Errorf("%s: %s is there", name, tt.not)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "etc", ".*")); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// TestIntroduceStaysInside holds that no link leads out of the image.
func TestIntroduceStaysInside(t *testing.T) {
	outside := t.TempDir()
	file := filepath.Join(outside, "passwd")
	if err := os.WriteFile(file, []byte("theirs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"files":       {"etc/passwd@": file, "etc/group@": file},
		"directories": {"etc@": outside, "nfs@": outside, "home@": outside},
	} {
		if err := Introduce(rootfs(t, files), ann, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		list, err := os.ReadDir(outside)
		if b, _ := os.ReadFile(file); err != nil || len(list) != 1 || string(b) != "theirs\n" {
			t.Errorf("%s: outside has %v, and %q", name, list, b)
		}
	}
}

// TestHostileFiles holds that nothing that is no plain, small file is read.
func TestHostileFiles(t *testing.T) {
	for name, edit := range map[string]func(path string) error{
		"pipe":      func(p string) error { return unix.Mkfifo(p, 0o644) },
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
		"huge":      func(p string) error { return os.WriteFile(p, make([]byte, maxSize+1), 0o644) },
		"long line": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("x", maxSize-1)), 0o644) },
	} {
		dir := rootfs(t, map[string]string{"etc/": ""})
		if err := edit(filepath.Join(dir, Users)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- Introduce(dir, ann, nil) }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: still reading", name)
		}
	}
}
