package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/distribution/registry/api/errcode"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"

	"github.com/kelp-engine/kelp/engine/fault"
)

// system says how to speak to the registry at host with the client's
// credentials. Every file of the user that the library would read is named
// here, and does not exist.
func (m *Manager) system(host string, auth registry.AuthConfig) *types.SystemContext {
	none := filepath.Join(m.store.TempDir(), "none")
	sys := &types.SystemContext{
		SystemRegistriesConfPath:    os.DevNull,
		SystemRegistriesConfDirPath: none,
		RegistriesDirPath:           none,
		UserShortNameAliasConfPath:  none,
		AuthFilePath:                none,
		DockerPerHostCertDirPath:    none,
		DockerCertPath:              certDir(m.o.CertDirs, host),
		DockerRegistryUserAgent:     m.o.UserAgent,
		BlobInfoCacheDir:            none,
		BigFilesTemporaryDir:        m.store.TempDir(),
		DockerAuthConfig: &types.DockerAuthConfig{
			Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken,
		},
		DockerBearerRegistryToken: auth.RegistryToken,
	}
	if m.o.Insecure.has(host) {
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return sys
}

// certDir finds the directory with the registry's own certificates.
func certDir(dirs []string, host string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, host)
		if fi, err := os.Stat(path); err == nil && fi.IsDir() {
			return path
		}
	}
	return ""
}

// remote is a repository's name as the library wants it: with a tag or digest.
func remote(named reference.Named) (types.ImageReference, error) {
	ref, err := docker.NewReference(reference.TagNameOnly(named))
	if err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	return ref, nil
}

// registryError puts what a registry said into Docker's words and classes.
func registryError(named reference.Named, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	name := reference.FamiliarName(named)
	// Not an authentication error: the client would ask for a password, for
	// what may as well be a mistyped name.
	if creds, ok := errors.AsType[docker.ErrUnauthorizedForCredentials](err); ok {
		return fault.NotFound("access denied for %s, repository does not exist or may require 'docker login': %w", name, creds.Err)
	}
	if errors.Is(err, docker.ErrTooManyRequests) {
		return fault.Unavailable("toomanyrequests: the registry %s limits how much you may pull", reference.Domain(named)).
			WithHint("log in with 'docker login', or try again later")
	}
	if coded, ok := errors.AsType[errcode.Error](err); ok {
		switch coded.Code.Descriptor().Value {
		case "MANIFEST_UNKNOWN", "BLOB_UNKNOWN":
			return fault.NotFound("manifest for %s not found: manifest unknown: %s", reference.FamiliarString(named), coded.Message)
		case "NAME_UNKNOWN":
			return fault.NotFound("repository %s not found: name unknown: %s", name, coded.Message)
		case "DENIED", "UNAUTHORIZED":
			return fault.NotFound("access denied for %s, repository does not exist or may require 'docker login': %s: %s",
				name, strings.ToLower(coded.Code.Descriptor().Value), coded.Message)
		}
	}
	if status, ok := errors.AsType[docker.UnexpectedHTTPStatusError](err); ok && status.StatusCode == http.StatusNotFound {
		return fault.NotFound("%s not found at the registry: %w", reference.FamiliarString(named), err)
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && error(f) == err {
		return err
	}
	return fmt.Errorf("registry %s: %w", reference.Domain(named), err)
}

// Login asks a registry whether it knows the credentials.
func (m *Manager) Login(ctx context.Context, auth registry.AuthConfig) error {
	host := loginHost(auth.ServerAddress)
	if auth.Username == "" && auth.IdentityToken == "" && auth.RegistryToken == "" {
		return fault.InvalidArgument("no credentials for registry %s are given", host)
	}
	err := docker.CheckAuth(ctx, m.system(host, auth), auth.Username, auth.Password, host)
	if creds, ok := errors.AsType[docker.ErrUnauthorizedForCredentials](err); ok {
		return fault.Unauthenticated("login attempt to %s failed: unauthorized: %w", host, creds.Err)
	}
	if coded, ok := errors.AsType[errcode.Error](err); ok && coded.Code == errcode.ErrorCodeUnauthorized {
		return fault.Unauthenticated("login attempt to %s failed: unauthorized: %w", host, err)
	}
	if err != nil {
		return fault.Unavailable("cannot log in to %s: %w", host, err)
	}
	return nil
}

// loginHost is the host of a server address, which may be a URL.
func loginHost(address string) string {
	address = strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	host, _, _ := strings.Cut(address, "/")
	switch host {
	case "", "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

// Inspect describes the manifest that a registry has under a reference.
func (m *Manager) Inspect(ctx context.Context, ref string, auth registry.AuthConfig) (registry.DistributionInspect, error) {
	var d registry.DistributionInspect
	named, err := parseRemote(ref)
	if err != nil {
		return d, err
	}
	r, err := m.openRemote(ctx, reference.TagNameOnly(named), auth)
	if err != nil {
		return d, err
	}
	defer r.Close()
	d.Descriptor = ocispec.Descriptor{MediaType: r.mediaType, Digest: r.digest, Size: int64(len(r.manifest))}
	if isIndex(r.mediaType, r.manifest) {
		d.Platforms, err = indexPlatforms(r.manifest)
		return d, err
	}
	mf, err := parseManifest(r.manifest, r.mediaType)
	if err != nil {
		return d, err
	}
	_, p, err := r.config(ctx, mf)
	if err != nil {
		return d, err
	}
	d.Platforms = []ocispec.Platform{p}
	return d, nil
}

// parseRemote reads a reference that names a repository.
func parseRemote(text string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	return named, nil
}
