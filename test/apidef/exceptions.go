package apidef

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// Exception is something that dockerd answers although the definition does
// not say so, and that clients know.
type Exception struct {
	// Where is a regular expression of "1.NN METHOD PATH STATUS: fault".
	Where string
	// What is it, and Why is it right.
	What, Why string

	where *regexp.Regexp
}

// Exceptions are all that an answer is forgiven.
var Exceptions = compile([]Exception{
	{
		Where: `: undocumented status 400$`,
		What:  "400 from any endpoint",
		Why:   "a request that cannot be read is the client's fault everywhere; the definition says so of some endpoints only",
	},
	{
		Where: `: undocumented status 501$`,
		What:  "501 from any endpoint",
		Why:   "what this engine does not offer is refused in so many words",
	},
	{
		Where: ` POST /containers/\{id\}/(start|pause|unpause|resize|restart|attach) 409: undocumented| GET /containers/\{id\}/(top|logs|export|stats) 409: undocumented| POST /exec/\{id\}/resize 409: undocumented`,
		What:  "409 from a container in a state that forbids the request",
		Why:   "dockerd answers so, and the docker client shows the message",
	},
	{
		Where: ` POST /networks/create 409: undocumented| POST /networks/\{id\}/connect 409: undocumented`,
		What:  "409 for a name that is taken",
		Why:   "compose takes 409 for \"it is there already\"",
	},
	{
		Where: ` POST /containers/\{id\}/start 403: undocumented| POST /networks/create 503: undocumented`,
		What:  "403 from the start of a container whose address or port is not to be had, 503 for networks that need a swarm",
		Why:   "dockerd answers so, with the same words",
	},
	{
		Where: ` POST /volumes/create (404|409): undocumented`,
		What:  "404 for an unknown volume driver, 409 for a volume of that name with other options",
		Why:   "dockerd answers so",
	},
	{
		Where: ` POST /(volumes|networks)/create 503: undocumented`,
		What:  "503 for what needs a swarm",
		Why:   "dockerd answers so without one",
	},
	{
		Where: ` POST /exec/\{id\}/start 101: undocumented`,
		What:  "101 from the start of an exec",
		Why:   "as from attach: every client asks for the upgrade",
	},
	{
		Where: ` POST /images/\{name\}/push 40[013]: undocumented| POST /images/create (401|403|409): undocumented| GET /distribution/\{name\}/json (403|404): undocumented| GET /images/(get|\{name\}/get) 404: undocumented| POST /images/load 404: undocumented`,
		What:  "a registry's refusal, and 404 for an image, or a platform of one, that is not there",
		Why:   "dockerd passes them on",
	},
	{
		Where: `/(Aliases|Links|DNSNames|IPAMConfig|Networks)': got null`,
		What:  "null for the empty lists of an endpoint",
		Why:   "dockerd's lists of Go are null when nothing was given",
	},
	{
		Where: `/HostConfig/(Binds|Blkio[A-Za-z]+|Cap(Add|Drop)|Device[A-Za-z]+|Devices|Dns[A-Za-z]*|ExtraHosts|GroupAdd|Links|MemorySwappiness|OomKillDisable|PortBindings|SecurityOpt|Ulimits|VolumesFrom)': got null`,
		What:  "null for options of HostConfig that were not given",
		Why:   "clients tell \"not given\" from \"none\" by it",
	},
	{
		Where: `/(Container)?Config/(Entrypoint|Cmd|Env|Labels|OnBuild|Volumes)': got null`,
		What:  "null in Config for what was not given",
		Why:   "as in HostConfig",
	},
	{
		Where: `'(/Volumes/[0-9]+|/Items/[0-9]+|/VolumeUsage/Items/[0-9]+)?/(Labels|Options)': got null`,
		What:  "null for a volume's labels and options when none were given",
		Why:   "as in HostConfig",
	},
	{
		Where: `(/[0-9]+|/Images/[0-9]+|/ImageUsage/Items/[0-9]+)/(Labels|Tags)': got null`,
		What:  "null for the labels of an image without, and for the tags of a layer in its history",
		Why:   "dockerd answers so",
	},
	{
		Where: `/IPAM/Options': got null|/IPAM/Config': got null`,
		What:  "null for options of a network's address management that were not given",
		Why:   "as in HostConfig",
	},
	{
		Where: `/GraphDriver/Data': got null`,
		What:  "null for the storage driver's data",
		Why:   "dockerd answers so with its containerd image store: the paths are nobody's business",
	},
	{
		Where: ` GET /info 200: at '/CgroupDriver': value must be one of 'cgroupfs', 'systemd'$`,
		What:  "the cgroup driver \"none\", up to 1.39",
		Why:   "later definitions have it; dockerd answers so to clients of any version where it has no cgroups",
	},
	{
		Where: ` GET /info .*/(GenericResources|Plugins/Authorization|AllowNondistributableArtifacts[A-Za-z]+)': got null`,
		What:  "null for lists of /info that are empty",
		Why:   "dockerd answers so",
	},
	{
		Where: ` GET /containers/\{id\}/stats .*/blkio_stats/.*': got null`,
		What:  "null for block statistics that the kernel does not have",
		Why:   "dockerd answers so",
	},
	{
		Where: `^1\.(4[4-9]|5[01]) GET /events 200: .*additional properties`,
		What:  "status, id and from in events up to 1.51",
		Why:   "the version history says that they were there until 1.52",
	},
	{
		Where: `^1\.52 GET /system/df 200: at '': additional properties`,
		What:  "both the old and the new fields of disk usage in 1.52",
		Why:   "the version history says so",
	},
	{
		Where: ` GET /exec/\{id\}/json .*/ExitCode': got null`,
		What:  "null as the exit code of an exec that has not ended",
		Why:   "later definitions say so",
	},
	{
		Where: `^1\.(4[2-9]|5[012]) GET /system/df 200: at '/(Containers|Images|Volumes|BuildCache)': got null`,
		What:  "null for kinds of objects that were not asked for, up to 1.52",
		Why:   "clients tell \"not asked for\" from \"none\" by it",
	},
	{
		Where: `^1\.(2[4-9]|3[0-9]) .*(/IPAM/Options': got object|/ExecIDs': got (null|array)|/NetworkSettings/Ports': got object|/RestartPolicy/Name': value must be|/PidsLimit': got null|/PortBindings/80~1tcp': got array)`,
		What:  "a network's IPAM options, a container's ExecIDs, Ports, PortBindings, PidsLimit and the restart policy \"no\" up to 1.39",
		Why:   "the definitions of these versions were wrong there, later ones are not",
	},
	{
		Where: `^1\.(2[4-9]|3[0-9]) GET /system/df 200: at '/Containers/[0-9]+': got object, want array`,
		What:  "disk usage lists containers, not lists of containers, up to 1.39",
		Why:   "as before",
	},
})

func compile(all []Exception) []Exception {
	for i := range all {
		all[i].where = regexp.MustCompile(all[i].Where)
	}
	return all
}

// forgiven says whether a fault is one of the exceptions.
func (o *Operation) forgiven(status int, fault string) bool {
	where := fmt.Sprintf("%s %s %s %d: %s", o.of.version, o.Method, o.Path, status, fault)
	for _, e := range Exceptions {
		if e.where.MatchString(where) {
			return true
		}
	}
	return false
}

// CheckStatus says what is wrong with a status code, "" for nothing.
func (o *Operation) CheckStatus(status int) string {
	if _, ok := o.responses[status]; ok {
		return ""
	}
	fault := fmt.Sprintf("undocumented status %d", status)
	if o.forgiven(status, fault) {
		return ""
	}
	return fault
}

// extra are endpoints that Docker serves and the definition does not name.
var extra = []string{
	"POST /grpc", "POST /build/cancel", // the client's build, besides /session
	"GET /containers/{id}/checkpoints", "POST /containers/{id}/checkpoints", "DELETE /containers/{id}/checkpoints/{checkpoint}", // experimental
	"GET /networks/", // as old clients ask
	"OPTIONS /",
}

// Extra says whether Docker serves an endpoint, by its pattern, that the
// definition does not name.
func Extra(method, path string) bool {
	segments := strings.Split(path, "/")
	for _, e := range extra {
		m, p, _ := strings.Cut(e, " ")
		if m == method && (p == path || matches(strings.Split(p, "/"), segments)) {
			return true
		}
	}
	return false
}

// IsError says whether a status is one of a refusal, whose body is a message.
func IsError(status int) bool { return status >= http.StatusBadRequest }
