"""Documents -> rows, before prepare: page images, what may leave the machine, and the teacher that labels them."""
