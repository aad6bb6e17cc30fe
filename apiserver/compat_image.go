package apiserver

import (
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	types "github.com/moby/moby/api/types/image"

	"github.com/kelp-engine/kelp/image"
)

// The shapes of images that older API versions had. All differences are in
// this file.

// untagged stands for each part of the reference of an image that has none.
const untagged = "<none>"

// summary143 is an image in a list before 1.44, with its size twice.
type summary143 struct {
	types.Summary
	VirtualSize int64
}

// imagesFor is a list of images as the client's version knows it.
func imagesFor(r *request, list []types.Summary) any {
	if r.since("1.44") {
		return list
	}
	old := make([]summary143, len(list))
	for i, im := range list {
		if !r.since("1.43") && len(im.RepoTags) == 0 && len(im.RepoDigests) == 0 {
			im.RepoTags = []string{untagged + ":" + untagged}
			im.RepoDigests = []string{untagged + "@" + untagged}
		}
		old[i] = summary143{im, im.Size}
	}
	return old
}

// config151 is an image's configuration before 1.52, with the members that
// are not set, too.
type config151 struct {
	dockerspec.DockerOCIImageConfig
	User, WorkingDir              string
	Env, Cmd, Entrypoint, OnBuild []string
	Volumes                       map[string]struct{}
	Labels                        map[string]string
}

// config149 is an image's configuration before 1.50: it had the members of a
// container's, always empty.
type config149 struct {
	Hostname, Domainname                    string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce               bool
	Image                                   string
	config151
}

// inspect151 is an image before 1.52. Parent is told for images that were
// made from another one here.
type inspect151 struct {
	types.InspectResponse
	Parent, Comment, DockerVersion, Author string
	Config                                 any

	Created         string     `json:",omitempty"` // before 1.44 always
	VirtualSize     *int64     `json:",omitempty"` // before 1.44
	Container       *string    `json:",omitempty"` // before 1.45
	ContainerConfig *config149 `json:",omitempty"` // before 1.45, always empty
}

// imageFor is an image, which was read from made, as a client before 1.52
// knows it.
func imageFor(r *request, im types.InspectResponse, made *image.Image) any {
	old := inspect151{
		InspectResponse: im,
		Parent:          made.Parent, Comment: im.Comment, DockerVersion: made.DockerVersion, Author: im.Author,
		Created: im.Created,
	}
	var config dockerspec.DockerOCIImageConfig
	if im.Config != nil {
		config = *im.Config
	}
	full := config151{
		DockerOCIImageConfig: config, User: config.User, WorkingDir: config.WorkingDir,
		Env: config.Env, Cmd: config.Cmd, Entrypoint: config.Entrypoint, OnBuild: config.OnBuild,
		Volumes: config.Volumes, Labels: config.Labels,
	}
	old.Config = full
	if !r.since("1.50") {
		old.Config = config149{config151: full}
	}
	if !r.since("1.45") {
		old.Container, old.ContainerConfig = &made.Container, &config149{}
	}
	if !r.since("1.44") {
		old.VirtualSize = &im.Size
		if old.Created == "" {
			old.Created = time.Time{}.Format(time.RFC3339Nano)
		}
	}
	return old
}
