package fusefs

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// askWithin bounds how long a loop device may take to say what it stands on: the
// kernel asks the file system of that file, which may be another one of FUSE.
const askWithin = time.Second

// loopsOn finds the loop devices that stand on the file. The kernel holds it for
// them, so no process shows it; and the path that the kernel tells may lead to
// the mount as well as below it, so the device itself is asked.
func loopsOn(file FileID) (writers, readers []Holder) {
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, nil // the pattern is good
	}
	for _, name := range names {
		device := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(name)))
		at, readOnly, ok := askLoop(device)
		if !ok || at != file {
			continue
		}
		holder := Holder{Command: "the loop device " + device}
		if readOnly {
			readers = append(readers, holder)
		} else {
			writers = append(writers, holder)
		}
	}
	return writers, readers
}

// askLoop tells which file a loop device stands on.
func askLoop(device string) (at FileID, readOnly, ok bool) {
	type answer struct {
		info *unix.LoopInfo64
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			answers <- answer{nil, err}
			return
		}
		defer closeFD(fd)
		info, err := unix.IoctlLoopGetStatus64(fd)
		answers <- answer{info, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return FileID{}, false, false
		}
		return FileID{Device: a.info.Device, Inode: a.info.Inode}, a.info.Flags&unix.LO_FLAGS_READ_ONLY != 0, true
	case <-time.After(askWithin):
		return FileID{}, false, false
	}
}
