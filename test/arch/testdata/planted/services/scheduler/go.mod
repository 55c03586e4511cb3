module github.com/postrider/postrider/services/scheduler

go 1.26.0
