module github.com/postrider/postrider/services/dispatcher

go 1.26.0
