package layer

import (
	"testing"

	"github.com/kelp-engine/kelp/test/namespace"
)

func TestMain(m *testing.M) { namespace.Main(m) }
