package fusefs

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// loopInquiries ask loop devices what they stand on: the kernel asks the file
// system of that file, which may be another one of FUSE, or this very one.
var loopInquiries = newInquiries(time.Second)

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
	var info *unix.LoopInfo64
	answered := loopInquiries.ask(device, func() {
		fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer closeFD(fd)
		info, _ = unix.IoctlLoopGetStatus64(fd) // nil if nothing is attached to it
	})
	if !answered || info == nil {
		return FileID{}, false, false
	}
	return FileID{Device: info.Device, Inode: info.Inode}, info.Flags&unix.LO_FLAGS_READ_ONLY != 0, true
}
