// Package doctor judges whether a machine and its user have what kelp needs,
// and knows the remedy for what is missing. Check is a function of facts, so
// every verdict can be tested; Gather finds the facts out.
//
// It must not change anything.
package doctor

// Status is the verdict of a check.
type Status string

// Verdicts: Warn is for what kelp runs without, with less.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Result is one line of the diagnosis.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	// Remedy says exactly what to do; empty with Pass.
	Remedy string `json:"remedy,omitempty"`
}

// checks are in the order in which they are shown: what later ones build on
// comes first.
var checks = []struct {
	name  string
	check func(Facts) Result
}{
	{"user", checkUser},
	{"kernel", checkKernel},
	{"user namespaces", checkNamespaces},
	{"mounts", checkMounts},
	{"subordinate ids", checkSubIDs},
	{"newuidmap", checkUidmap},
	{"data root", checkDataRoot},
	{"overlay", checkOverlay},
	{"runtime directory", checkRuntimeDir},
	{"cgroups", checkCgroups},
	{"networks", checkNetworks},
	{"packet rules", checkRules},
	{"source addresses", checkGuard},
	{"network drivers", checkDrivers},
	{"ping", checkPing},
	{"ports", checkPorts},
	{"docker client", checkDocker},
}

// Check judges the facts.
func Check(f Facts) []Result {
	results := make([]Result, len(checks))
	for i, c := range checks {
		results[i] = c.check(f)
		results[i].Name = c.name
	}
	return results
}

// DataRoot judges a directory for kelp's data alone.
func DataRoot(dir string) Result {
	return checkDataRoot(Facts{Data: fileSystem(dir)})
}

// FirstFailure returns the first result that fails: later ones often follow
// from it.
func FirstFailure(results []Result) (Result, bool) {
	for _, r := range results {
		if r.Status == Fail {
			return r, true
		}
	}
	return Result{}, false
}

// Failed says whether kelp cannot work.
func Failed(results []Result) bool {
	_, failed := FirstFailure(results)
	return failed
}

func pass(detail string) Result         { return Result{Status: Pass, Detail: detail} }
func warn(detail, remedy string) Result { return Result{Status: Warn, Detail: detail, Remedy: remedy} }

func fail(detail, remedy string) Result { return Result{Status: Fail, Detail: detail, Remedy: remedy} }
