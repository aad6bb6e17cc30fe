package registry

import (
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kelp-engine/kelp/test/images"
)

func TestRegistry(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options Options
	}{
		{"open", Options{}},
		{"basic", Options{Auth: Basic}},
		{"token", Options{Auth: Token}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			fill, err := Start(t.Context(), Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer fill.Close()
			want, err := fill.Push(t.Context(), images.Recipe{Name: "scratch", Extra: 3, Layer: images.Gzip}, "team/app", "1")
			if err != nil {
				t.Fatal(err)
			}
			tc.options.Dir = dir
			r, err := Start(t.Context(), tc.options)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ref, err := name.ParseReference(r.Host + "/team/app:1")
			if err != nil {
				t.Fatal(err)
			}
			got, err := remote.Head(ref, remote.WithAuth(&authn.Basic{Username: User, Password: Password}))
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest.String() != want.Digest.String() {
				t.Errorf("the registry has %s, want %s", got.Digest, want.Digest)
			}
			if tc.options.Auth == Open {
				return
			}
			if _, err := remote.Head(ref); err == nil {
				t.Error("it let an unknown client in")
			}
			if _, err := remote.Head(ref, remote.WithAuth(&authn.Basic{Username: User, Password: "wrong"})); err == nil {
				t.Error("it let a wrong password in")
			}
		})
	}
}

func TestRegistryServesHTTPS(t *testing.T) {
	r, err := Start(t.Context(), Options{Dir: t.TempDir(), TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := http.Get("https://" + r.Host + "/v2/"); err == nil {
		t.Error("a client that does not know the certificate trusts it")
	}
}
