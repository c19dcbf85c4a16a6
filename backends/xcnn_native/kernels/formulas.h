// Whole activations and their gradients, written by formulas.py from the layers' own formulas, not by hand.
//
// `a` is what an activation is given, or what it gave where its gradient follows from that; `b` is dy.

#pragma once
#include "functions.h"

INLINE Vector single_relu_back(Vector a, Vector b) {
  const Vector v2 = (Vector)(a <= splat(0.0));
  const Vector v3 = (Vector)~(Mask)v2;
  const Vector v5 = pick((Mask)v3, b, splat(0.0));
  return v5;
}

INLINE Vector single_leaky_relu(Vector a) {
  const Vector v2 = most(a, splat(0.0));
  const Vector v4 = least(a, splat(0.0));
  const Vector v5 = fma_(splat(0.3), v4, v2);
  return v5;
}

INLINE Vector single_leaky_relu_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) < a);
  const Vector v6 = pick((Mask)v3, splat(1.0), splat(0.3));
  const Vector v7 = b * v6;
  return v7;
}

INLINE Vector single_leaky_relu_001(Vector a) {
  const Vector v2 = most(a, splat(0.0));
  const Vector v4 = least(a, splat(0.0));
  const Vector v5 = fma_(splat(0.01), v4, v2);
  return v5;
}

INLINE Vector single_leaky_relu_001_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) < a);
  const Vector v6 = pick((Mask)v3, splat(1.0), splat(0.01));
  const Vector v7 = b * v6;
  return v7;
}

INLINE Vector single_elu(Vector a) {
  const Vector v2 = (Vector)(splat(0.0) < a);
  const Vector v4 = least(a, splat(0.0));
  const Vector v5 = expm1_(v4);
  const Vector v6 = splat(1.0) * v5;
  const Vector v7 = pick((Mask)v2, a, v6);
  return v7;
}

INLINE Vector single_elu_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) < a);
  const Vector v5 = least(a, splat(0.0));
  const Vector v6 = exp_(v5);
  const Vector v7 = splat(1.0) * v6;
  const Vector v8 = pick((Mask)v3, splat(1.0), v7);
  const Vector v9 = b * v8;
  return v9;
}

INLINE Vector single_sigmoid(Vector a) {
  const Vector v2 = (Vector)(splat(0.0) <= a);
  const Vector v4 = magnitude(a);
  const Vector v5 = -v4;
  const Vector v6 = exp_(v5);
  const Vector v7 = pick((Mask)v2, splat(1.0), v6);
  const Vector v8 = splat(1.0) + v6;
  const Vector v9 = v7 / v8;
  return v9;
}

INLINE Vector single_sigmoid_back(Vector a, Vector b) {
  const Vector v3 = splat(1.0) - a;
  const Vector v4 = a * v3;
  const Vector v5 = b * v4;
  return v5;
}

INLINE Vector single_tanh_back(Vector a, Vector b) {
  const Vector v3 = fma_(-a, a, splat(1.0));
  const Vector v4 = b * v3;
  return v4;
}

INLINE Vector single_silu(Vector a) {
  const Vector v2 = (Vector)(splat(0.0) <= a);
  const Vector v4 = magnitude(a);
  const Vector v5 = -v4;
  const Vector v6 = exp_(v5);
  const Vector v7 = pick((Mask)v2, splat(1.0), v6);
  const Vector v8 = splat(1.0) + v6;
  const Vector v9 = v7 / v8;
  const Vector v10 = a * v9;
  return v10;
}

INLINE Vector single_silu_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) <= a);
  const Vector v5 = magnitude(a);
  const Vector v6 = -v5;
  const Vector v7 = exp_(v6);
  const Vector v8 = pick((Mask)v3, splat(1.0), v7);
  const Vector v9 = splat(1.0) + v7;
  const Vector v10 = v8 / v9;
  const Vector v11 = a * v10;
  const Vector v12 = splat(1.0) - v10;
  const Vector v13 = fma_(v11, v12, v10);
  const Vector v14 = b * v13;
  return v14;
}

INLINE Vector single_softplus(Vector a) {
  const Vector v2 = most(a, splat(0.0));
  const Vector v3 = magnitude(a);
  const Vector v4 = -v3;
  const Vector v5 = exp_(v4);
  const Vector v6 = log1p_(v5);
  const Vector v7 = v2 + v6;
  return v7;
}

INLINE Vector single_softplus_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) <= a);
  const Vector v5 = magnitude(a);
  const Vector v6 = -v5;
  const Vector v7 = exp_(v6);
  const Vector v8 = pick((Mask)v3, splat(1.0), v7);
  const Vector v9 = splat(1.0) + v7;
  const Vector v10 = v8 / v9;
  const Vector v11 = b * v10;
  return v11;
}

INLINE Vector single_gelu(Vector a) {
  const Vector v2 = (Vector)(splat(0.0) < a);
  const Vector v6 = magnitude(a);
  const Vector v8 = least(v6, splat(40.0));
  const Vector v9 = splat(16.0) * v8;
  const Vector v10 = nearest(v9);
  const Vector v12 = v10 * splat(0.0625);
  const Vector v13 = v12 * v12;
  const Vector v14 = v8 - v12;
  const Vector v15 = v8 + v12;
  const Vector v16 = v14 * v15;
  const Vector v17 = v13 + v16;
  const Vector v18 = splat(-0.5) * v17;
  const Vector v19 = exp_(v18);
  const Vector v22 = v17 - v13;
  const Vector v23 = v16 - v22;
  const Vector v24 = fma_(-splat(0.19947114020071635), v23, splat(0.3989422804014327));
  const Vector v25 = v19 * v24;
  const Vector v31 = fma_(v8, splat(0.010410523), splat(0.102473269));
  const Vector v32 = fma_(v8, v31, splat(0.461140724));
  const Vector v33 = fma_(v8, v32, splat(1.10111826));
  const Vector v34 = fma_(v8, v33, splat(1.25331415));
  const Vector v35 = v25 * v34;
  const Vector v41 = fma_(v8, splat(0.0104104113), splat(0.102479386));
  const Vector v42 = fma_(v8, v41, splat(0.471407093));
  const Vector v43 = fma_(v8, v42, splat(1.20554579));
  const Vector v44 = fma_(v8, v43, splat(1.67645027));
  const Vector v45 = fma_(v8, v44, splat(1.0));
  const Vector v46 = v35 / v45;
  const Vector v47 = splat(1.0) - v46;
  const Vector v48 = pick((Mask)v2, v47, v46);
  const Vector v49 = a * v48;
  return v49;
}

INLINE Vector full_gelu(Vector a) {
  const Vector v2 = (Vector)(splat(0.0) < a);
  const Vector v6 = magnitude(a);
  const Vector v8 = least(v6, splat(40.0));
  const Vector v9 = splat(16.0) * v8;
  const Vector v10 = nearest(v9);
  const Vector v12 = v10 * splat(0.0625);
  const Vector v13 = v12 * v12;
  const Vector v14 = v8 - v12;
  const Vector v15 = v8 + v12;
  const Vector v16 = v14 * v15;
  const Vector v17 = v13 + v16;
  const Vector v18 = splat(-0.5) * v17;
  const Vector v19 = exp_(v18);
  const Vector v22 = v17 - v13;
  const Vector v23 = v16 - v22;
  const Vector v24 = fma_(-splat(0.19947114020071635), v23, splat(0.3989422804014327));
  const Vector v25 = v19 * v24;
  const Vector v36 = fma_(v8, splat(3.5012552848498017e-06), splat(9.400629529092762e-05));
  const Vector v37 = fma_(v8, v36, splat(0.0012361578298231914));
  const Vector v38 = fma_(v8, v37, splat(0.010297812619454007));
  const Vector v39 = fma_(v8, v38, splat(0.05943574202970968));
  const Vector v40 = fma_(v8, v39, splat(0.2456256501285078));
  const Vector v41 = fma_(v8, v40, splat(0.7268738960647025));
  const Vector v42 = fma_(v8, v41, splat(1.4913258265745812));
  const Vector v43 = fma_(v8, v42, splat(1.9438881357843836));
  const Vector v44 = fma_(v8, v43, splat(1.2533141373155001));
  const Vector v45 = v25 * v44;
  const Vector v56 = fma_(v8, splat(3.501255284859206e-06), splat(9.400629528895433e-05));
  const Vector v57 = fma_(v8, v56, splat(0.001239659085294463));
  const Vector v58 = fma_(v8, v57, splat(0.010391818904169287));
  const Vector v59 = fma_(v8, v58, splat(0.060664897754847104));
  const Vector v60 = fma_(v8, v59, splat(0.25573543888979244));
  const Vector v61 = fma_(v8, v60, splat(0.7838725713107763));
  const Vector v62 = fma_(v8, v61, splat(1.7172920534831577));
  const Vector v63 = fma_(v8, v62, splat(2.5640432470294376));
  const Vector v64 = fma_(v8, v63, splat(2.3488828922730782));
  const Vector v65 = fma_(v8, v64, splat(1.0));
  const Vector v66 = v45 / v65;
  const Vector v67 = splat(1.0) - v66;
  const Vector v68 = pick((Mask)v2, v67, v66);
  const Vector v69 = a * v68;
  return v69;
}

INLINE Vector single_gelu_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) < a);
  const Vector v7 = magnitude(a);
  const Vector v9 = least(v7, splat(40.0));
  const Vector v10 = splat(16.0) * v9;
  const Vector v11 = nearest(v10);
  const Vector v13 = v11 * splat(0.0625);
  const Vector v14 = v13 * v13;
  const Vector v15 = v9 - v13;
  const Vector v16 = v9 + v13;
  const Vector v17 = v15 * v16;
  const Vector v18 = v14 + v17;
  const Vector v19 = splat(-0.5) * v18;
  const Vector v20 = exp_(v19);
  const Vector v23 = v18 - v14;
  const Vector v24 = v17 - v23;
  const Vector v25 = fma_(-splat(0.19947114020071635), v24, splat(0.3989422804014327));
  const Vector v26 = v20 * v25;
  const Vector v32 = fma_(v9, splat(0.010410523), splat(0.102473269));
  const Vector v33 = fma_(v9, v32, splat(0.461140724));
  const Vector v34 = fma_(v9, v33, splat(1.10111826));
  const Vector v35 = fma_(v9, v34, splat(1.25331415));
  const Vector v36 = v26 * v35;
  const Vector v42 = fma_(v9, splat(0.0104104113), splat(0.102479386));
  const Vector v43 = fma_(v9, v42, splat(0.471407093));
  const Vector v44 = fma_(v9, v43, splat(1.20554579));
  const Vector v45 = fma_(v9, v44, splat(1.67645027));
  const Vector v46 = fma_(v9, v45, splat(1.0));
  const Vector v47 = v36 / v46;
  const Vector v48 = splat(1.0) - v47;
  const Vector v49 = pick((Mask)v3, v48, v47);
  const Vector v50 = fma_(a, v26, v49);
  const Vector v51 = b * v50;
  return v51;
}

INLINE Vector full_gelu_back(Vector a, Vector b) {
  const Vector v3 = (Vector)(splat(0.0) < a);
  const Vector v7 = magnitude(a);
  const Vector v9 = least(v7, splat(40.0));
  const Vector v10 = splat(16.0) * v9;
  const Vector v11 = nearest(v10);
  const Vector v13 = v11 * splat(0.0625);
  const Vector v14 = v13 * v13;
  const Vector v15 = v9 - v13;
  const Vector v16 = v9 + v13;
  const Vector v17 = v15 * v16;
  const Vector v18 = v14 + v17;
  const Vector v19 = splat(-0.5) * v18;
  const Vector v20 = exp_(v19);
  const Vector v23 = v18 - v14;
  const Vector v24 = v17 - v23;
  const Vector v25 = fma_(-splat(0.19947114020071635), v24, splat(0.3989422804014327));
  const Vector v26 = v20 * v25;
  const Vector v37 = fma_(v9, splat(3.5012552848498017e-06), splat(9.400629529092762e-05));
  const Vector v38 = fma_(v9, v37, splat(0.0012361578298231914));
  const Vector v39 = fma_(v9, v38, splat(0.010297812619454007));
  const Vector v40 = fma_(v9, v39, splat(0.05943574202970968));
  const Vector v41 = fma_(v9, v40, splat(0.2456256501285078));
  const Vector v42 = fma_(v9, v41, splat(0.7268738960647025));
  const Vector v43 = fma_(v9, v42, splat(1.4913258265745812));
  const Vector v44 = fma_(v9, v43, splat(1.9438881357843836));
  const Vector v45 = fma_(v9, v44, splat(1.2533141373155001));
  const Vector v46 = v26 * v45;
  const Vector v57 = fma_(v9, splat(3.501255284859206e-06), splat(9.400629528895433e-05));
  const Vector v58 = fma_(v9, v57, splat(0.001239659085294463));
  const Vector v59 = fma_(v9, v58, splat(0.010391818904169287));
  const Vector v60 = fma_(v9, v59, splat(0.060664897754847104));
  const Vector v61 = fma_(v9, v60, splat(0.25573543888979244));
  const Vector v62 = fma_(v9, v61, splat(0.7838725713107763));
  const Vector v63 = fma_(v9, v62, splat(1.7172920534831577));
  const Vector v64 = fma_(v9, v63, splat(2.5640432470294376));
  const Vector v65 = fma_(v9, v64, splat(2.3488828922730782));
  const Vector v66 = fma_(v9, v65, splat(1.0));
  const Vector v67 = v46 / v66;
  const Vector v68 = splat(1.0) - v67;
  const Vector v69 = pick((Mask)v3, v68, v67);
  const Vector v70 = fma_(a, v26, v69);
  const Vector v71 = b * v70;
  return v71;
}

INLINE Vector single_gelu_tanh(Vector a) {
  const Vector v3 = most(a, splat(-40.0));
  const Vector v5 = least(v3, splat(40.0));
  const Vector v8 = splat(0.07135481627260025) * v5;
  const Vector v9 = fma_(v8, v5, splat(1.5957691216057308));
  const Vector v10 = v5 * v9;
  const Vector v11 = (Vector)(splat(0.0) <= v10);
  const Vector v13 = magnitude(v10);
  const Vector v14 = -v13;
  const Vector v15 = exp_(v14);
  const Vector v16 = pick((Mask)v11, splat(1.0), v15);
  const Vector v17 = splat(1.0) + v15;
  const Vector v18 = v16 / v17;
  const Vector v19 = a * v18;
  return v19;
}

INLINE Vector single_gelu_tanh_back(Vector a, Vector b) {
  const Vector v4 = most(a, splat(-40.0));
  const Vector v6 = least(v4, splat(40.0));
  const Vector v9 = splat(0.07135481627260025) * v6;
  const Vector v10 = fma_(v9, v6, splat(1.5957691216057308));
  const Vector v11 = v6 * v10;
  const Vector v12 = (Vector)(splat(0.0) <= v11);
  const Vector v14 = magnitude(v11);
  const Vector v15 = -v14;
  const Vector v16 = exp_(v15);
  const Vector v17 = pick((Mask)v12, splat(1.0), v16);
  const Vector v18 = splat(1.0) + v16;
  const Vector v19 = v17 / v18;
  const Vector v20 = v6 * v19;
  const Vector v21 = splat(1.0) - v19;
  const Vector v22 = v20 * v21;
  const Vector v24 = splat(0.21406444881780073) * v6;
  const Vector v25 = fma_(v24, v6, splat(1.5957691216057308));
  const Vector v26 = fma_(v22, v25, v19);
  const Vector v27 = b * v26;
  return v27;
}

#define FORMULAS(ONE, TWO) \
  TWO(RELU_BACK, single_relu_back(a, b)) \
  ONE(LEAKY_RELU, single_leaky_relu(a)) \
  TWO(LEAKY_RELU_BACK, single_leaky_relu_back(a, b)) \
  ONE(LEAKY_RELU_001, single_leaky_relu_001(a)) \
  TWO(LEAKY_RELU_001_BACK, single_leaky_relu_001_back(a, b)) \
  ONE(ELU, single_elu(a)) \
  TWO(ELU_BACK, single_elu_back(a, b)) \
  ONE(SIGMOID, single_sigmoid(a)) \
  TWO(SIGMOID_BACK, single_sigmoid_back(a, b)) \
  TWO(TANH_BACK, single_tanh_back(a, b)) \
  ONE(SILU, single_silu(a)) \
  TWO(SILU_BACK, single_silu_back(a, b)) \
  ONE(SOFTPLUS, single_softplus(a)) \
  TWO(SOFTPLUS_BACK, single_softplus_back(a, b)) \
  ONE(GELU, WIDE ? full_gelu(a) : single_gelu(a)) \
  TWO(GELU_BACK, WIDE ? full_gelu_back(a, b) : single_gelu_back(a, b)) \
  ONE(GELU_TANH, single_gelu_tanh(a)) \
  TWO(GELU_TANH_BACK, single_gelu_tanh_back(a, b))

#define SINGLE_FORMULAS "RELU_BACK:b707119c8a09e8db LEAKY_RELU:ebca05ee9695dd7c LEAKY_RELU_BACK:0de9e4cf341651ca LEAKY_RELU_001:3101f36fe78f37d9 LEAKY_RELU_001_BACK:db6ec803cfae056d ELU:70dd864165b73653 ELU_BACK:59d14bbfae0d8a98 SIGMOID:eefa2f6a8d6b88e9 SIGMOID_BACK:538e94e3d4086fcf TANH_BACK:bf406b190d28307f SILU:7768e0088c87ac0c SILU_BACK:39686e37579f300f SOFTPLUS:9333a77e0f053d7c SOFTPLUS_BACK:154a1157b02d0c60 GELU:e5f882068340ccff GELU_BACK:d7b731e13d76c1be GELU_TANH:031619adfae7400a GELU_TANH_BACK:d67884313ddc1214"

#define FULL_FORMULAS "RELU_BACK:b707119c8a09e8db LEAKY_RELU:ebca05ee9695dd7c LEAKY_RELU_BACK:0de9e4cf341651ca LEAKY_RELU_001:3101f36fe78f37d9 LEAKY_RELU_001_BACK:db6ec803cfae056d ELU:70dd864165b73653 ELU_BACK:59d14bbfae0d8a98 SIGMOID:eefa2f6a8d6b88e9 SIGMOID_BACK:538e94e3d4086fcf TANH_BACK:bf406b190d28307f SILU:7768e0088c87ac0c SILU_BACK:39686e37579f300f SOFTPLUS:9333a77e0f053d7c SOFTPLUS_BACK:154a1157b02d0c60 GELU:03c6057745df0757 GELU_BACK:61db1fe71ffed9fe GELU_TANH:031619adfae7400a GELU_TANH_BACK:d67884313ddc1214"
