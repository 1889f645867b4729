package tracker

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the models short unless they are asked to be long: a kill and
// a restart of a real change log take some 20 ms.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "15"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if code == 0 {
		// Badger's dependencies keep goroutines of their own for good.
		err := goleak.Find(
			goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"),
			goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		)
		if err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}
