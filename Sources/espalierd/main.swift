print("espalierd")
