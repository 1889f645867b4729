package control_test

import (
	"path/filepath"
	"testing"

	"lifeboat/tracker/control"
)

// BenchmarkReadDisk measures what the socket costs: the backend gives bytes
// for nothing.
func BenchmarkReadDisk(b *testing.B) {
	path := filepath.Join(b.TempDir(), "c.sock")
	l, err := control.Listen(path)
	if err != nil {
		b.Fatal(err)
	}
	go serveFree(b, l)
	c := control.NewClient(path)
	defer c.Close()
	for name, size := range map[string]int{"4KiB": 4 << 10, "4MiB": control.MaxRead} {
		b.Run(name, func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.ReadDisk(b.Context(), "a1", "d1", p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
