package keeper

import (
	"fmt"
	"time"
)

const (
	// A filter is looked at every lookEvery; if it has given no sign of life
	// (handover.BeatInterval) at so many looks one after the other, it hangs.
	// Counting looks, not time, leaves out when the host was suspended.
	lookEvery = 500 * time.Millisecond
	looks     = 10
)

var errHangs = fmt.Errorf("it gave no sign of life for %v", looks*lookEvery)

// look looks whether the filter that serves lives. One that waits for its disk
// may be unable to say so: the kernel would not end it either.
func (k *keeper) look() {
	f := k.serving
	if f == nil || f.cause != nil || f.yielding {
		return
	}
	if beats := k.mount.beats(); beats != k.beats {
		k.beats, k.silent = beats, 0
		return
	}
	if k.silent++; k.silent < looks {
		return
	}
	if f.waitsForDisk() {
		if k.silent == looks {
			k.Logger.Warn("the filter gives no sign of life, but it waits for a disk", "pid", f.pid())
		}
		return
	}
	k.Logger.Error("the filter hangs and is killed", "pid", f.pid(), "cause", errHangs)
	f.cause = errHangs
	f.kill()
}
