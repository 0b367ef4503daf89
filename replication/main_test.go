package replication

import (
	"os"
	"testing"

	"github.com/everflag/everflag/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
