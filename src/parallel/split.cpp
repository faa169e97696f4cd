#include "parallel/split.h"
