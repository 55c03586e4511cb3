module github.com/postrider/postrider/services/ingest

go 1.26.0
