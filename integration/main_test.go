package integration

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// seed makes the guests' operations and the moments of kills; 0 means a new one.
var seed = flag.Uint64("seed", 0, "replay the random operations of this seed")

// The product: built with the race detector for what runs long and for a share
// of the commands, and as users have it for the rest of them, to save time.
// NORACE=1 in the environment has everything as users have it, to measure.
var raced, plain string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := testAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func testAll(m *testing.M) (code int, err error) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	fmt.Printf("integration: seed %d\n", *seed)
	dir, err := os.MkdirTemp("", "lifeboat-binary-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	raced, plain = filepath.Join(dir, "raced"), filepath.Join(dir, "plain")
	hows := [][]string{{"-o", plain}, {"-race", "-o", raced}}
	if os.Getenv("NORACE") != "" {
		hows, raced = hows[:1], plain
	}
	for _, how := range hows {
		build := exec.Command("go", slices.Concat([]string{"build"}, how, []string{"lifeboat/cmd/lifeboat"})...)
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the binary: %w: %s", err, out)
		}
	}
	return m.Run(), nil
}

// randomness returns the test's own source, which depends on the seed and its
// name: so a test can be replayed alone.
func randomness(t *testing.T) *rand.Rand {
	t.Logf("to replay: go test ./integration -run '^%s$' -seed %d", t.Name(), *seed)
	name := fnv.New64a()
	_, _ = name.Write([]byte(t.Name())) // it never fails
	return rand.New(rand.NewPCG(*seed, name.Sum64()))
}

// rounds chooses how often something is done: LONG=1 in the environment asks
// for the long form.
func rounds(short, long int) int {
	if os.Getenv("LONG") != "" {
		return long
	}
	return short
}

// asked is how often something is done: a variable of the environment may ask
// for another number than n.
func asked(t *testing.T, variable string, n int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(t, err)
	}
	return n
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
