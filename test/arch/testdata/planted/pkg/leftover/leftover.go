package leftover // planted: ranks
