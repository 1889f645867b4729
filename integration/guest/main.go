// Command guest is what runs inside the virtual machine that the tests boot: as
// its first process it mounts the disk and changes files on it for as long as
// the machine lives. What it prints on the serial console, in lines, is the
// truth about the disk:
//
//	ready             the disk is mounted, the work begins
//	created N         file N is durable, whole
//	deleting N        file N is about to be deleted, or is already
//	deleted N         it is gone, durably
//	block B G         block B of the file "blocks" is durable in generation G or a later one
//	failed …          what must not happen
//
// On the host, `guest verify DIR BEFORE AFTER` compares a disk that is mounted
// at DIR with what was printed before and after the moment that it shows.
package main

import (
	"fmt"
	"os"
)

func main() {
	if os.Getpid() == 1 {
		err := live()
		fmt.Println("failed", err)
		powerOff()
	}
	if len(os.Args) != 5 || os.Args[1] != "verify" {
		fmt.Fprintln(os.Stderr, "usage: guest verify DIR BEFORE AFTER")
		os.Exit(2)
	}
	if err := verify(os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
