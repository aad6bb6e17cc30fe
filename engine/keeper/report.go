package keeper

import (
	"encoding/json"
	"os"

	"github.com/kelp-engine/kelp/engine/fault"
)

// File descriptors that an engine is started with.
const (
	// EngineListenFD is the Engine API's listening socket.
	EngineListenFD = 3
	// EngineReportFD is a pipe on which the engine tells how its start went.
	EngineReportFD = 4
)

// EngineNumberEnv is the environment variable that says the how manieth of the
// keeper an engine is.
const EngineNumberEnv = "KELP_ENGINE_NUMBER"

// EngineReport is what an engine writes, once, on EngineReportFD.
type EngineReport struct {
	// Error is why the engine cannot serve; nil means that it does.
	Error *fault.Wire `json:"error,omitempty"`
}

// ReportStart tells the keeper that the calling engine serves, or with err
// why it cannot. The engine calls it once.
func ReportStart(err error) error {
	f := os.NewFile(EngineReportFD, "report")
	defer f.Close()
	return json.NewEncoder(f).Encode(EngineReport{Error: fault.ToWire(err)})
}
