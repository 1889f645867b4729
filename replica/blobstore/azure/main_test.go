package azure_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"lifeboat/replica/blobstore/blobstoretest/azurite"
)

// emulator serves all tests of the package, each with containers of its own:
// starting it takes longer than most of them. TestMain alone sets it.
var emulator *azurite.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	server, err := azurite.Launch(context.Background(), azurite.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	emulator = server
	return m.Run()
}
