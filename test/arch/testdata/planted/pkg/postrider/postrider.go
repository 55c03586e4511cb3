package postrider
