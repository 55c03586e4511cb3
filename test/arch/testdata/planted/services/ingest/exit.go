package ingest

import (
	"log"
	"os"
	"time"
)

func leave(hurry bool) {
	if hurry {
		os.Exit(1) // planted: exit
	}
	time.Sleep(time.Second) // planted: sleep
	log.Fatalf("no")        // planted: exit
}
