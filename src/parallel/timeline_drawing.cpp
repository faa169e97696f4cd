#include "parallel/timeline.h"
